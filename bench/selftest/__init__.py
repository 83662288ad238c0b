"""Every meter against answers that are known beforehand: `make selftest`."""
