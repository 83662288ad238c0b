"""From records to tables: read, group, compare, write. No torch, no matplotlib."""
