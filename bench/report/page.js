"use strict";
// Without this script every table and picture is there, in the order of the file, with the browser's own tooltips.
(() => {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  // What is chosen stands in the address, as table.what=value, so that a link to a filtered table can be passed on.
  const state = new URLSearchParams(location.search);
  function keep(key, value) {
    if (value) state.set(key, value);
    else state.delete(key);
    try {
      history.replaceState(null, "", `${location.pathname}${state.size ? `?${state}` : ""}${location.hash}`);
    } catch { /* a browser that lets no page from disk do so */ }
  }

  const natural = new Intl.Collator("en", { numeric: true });
  const said = (cell) => cell.dataset.sort ?? cell.textContent;

  function compare(a, b, isNumber) {
    return isNumber ? Number(a) - Number(b) : natural.compare(a, b);
  }

  function sortable(table, place) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], order = [...body.rows];
    heads.forEach((head, at) => {
      const button = make("button", { type: "button", title: "sort by this column" }, ...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      const name = head.textContent;
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1, isNumber = "number" in head.dataset;
        const keys = new Map(order.map((row) => [row, said(row.cells[at])]));
        const rows = next === "none" ? order : [...order].sort((one, two) => {
          const a = keys.get(one), b = keys.get(two);
          if (a === "" || b === "") return (a === "") - (b === "");
          return sign * compare(a, b, isNumber);
        });
        body.append(...rows);
        keep(`${place}.sort`, { ascending: name, descending: `-${name}`, none: "" }[next]);
      });
      const kept = state.get(`${place}.sort`);
      if (kept === name) button.click();
      if (kept === `-${name}`) [button, button].forEach((one) => one.click());
    });
  }

  function filterable(table, place) {
    const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
    if (rows.length < 2) return;
    const name = table.caption?.textContent ?? "", tests = [];
    const tools = make("div", { className: "tools", role: "search" }), count = make("output");
    tools.setAttribute("aria-label", `filter ${name}`);
    const apply = () => {
      rows.forEach((row) => { row.hidden = !tests.every((test) => test(row)); });
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
    };
    const box = make("input", { type: "search", placeholder: "words", autocomplete: "off", size: 14 });
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    tests.push((row) => box.value.toLowerCase().split(/\s+/).every((word) => texts.get(row).includes(word)));
    box.value = state.get(`${place}.filter`) ?? "";
    box.addEventListener("input", () => { apply(); keep(`${place}.filter`, box.value); });
    tools.append(make("label", {}, "filter", box));
    heads.forEach((head, at) => {
      const values = [...new Set(rows.map((row) => row.cells[at].textContent))];
      if (!("choice" in head.dataset) || values.length < 2 || values.length === rows.length) return;
      const select = make("select", {}, make("option", { value: "" }, "all"));
      select.append(...values.sort(natural.compare).map((value) => make("option", { value: `=${value}` }, value)));
      tests.push((row) => !select.value || select.value === `=${row.cells[at].textContent}`);
      const key = `${place}.${head.textContent}`;
      if (values.includes(state.get(key))) select.value = `=${state.get(key)}`;
      select.addEventListener("change", () => { apply(); keep(key, select.value.slice(1)); });
      tools.append(make("label", {}, head.textContent, select));
    });
    tools.append(count);
    apply();
    table.parentElement.before(tools);
  }

  async function copied(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  }

  function copyable(code) {
    const button = make("button", { type: "button", className: "copy", title: "copy the command" }, "copy");
    button.addEventListener("click", async () => {
      button.textContent = (await copied(code)) ? "copied" : "select it";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    if (code.closest("td")) code.before(button);
    else code.after(button);
  }

  const tip = document.getElementById("tip"), NEAR = 14;
  let shown = null;

  function hide() {
    shown?.classList.remove("on");
    shown = null;
    tip.hidden = true;
  }

  function show(mark, x, y) {
    if (mark !== shown) {
      hide();
      shown = mark;
      mark.classList.add("on");
      tip.textContent = mark.dataset.tip;
      tip.hidden = false;
    }
    const { width, height } = tip.getBoundingClientRect();
    const right = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
    tip.style.left = `${Math.max(4, right)}px`;
    tip.style.top = `${y + 14 + height > innerHeight ? y - 14 - height : y + 14}px`;
  }

  function nearest(marks, x, y) {
    let best = null, least = NEAR;
    for (const mark of marks) {
      const box = mark.getBoundingClientRect();
      const away = Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
      const middle = Math.hypot(x - (box.left + box.right) / 2, y - (box.top + box.bottom) / 2);
      // A line's box is most of the picture: only what is small is found by being near.
      if (box.width * box.height < 6000 && away + middle / 1000 < least) [best, least] = [mark, away + middle / 1000];
    }
    return best;
  }

  function speaking(svg) {
    const marks = [];
    for (const title of svg.querySelectorAll("title")) {
      const mark = title.parentElement;
      if (mark === svg) continue;
      mark.dataset.tip = title.textContent;
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", title.textContent);
      title.remove();  // or the browser shows a second one
      marks.push(mark);
    }
    if (!marks.length) {
      svg.removeAttribute("tabindex");
      return;
    }
    const point = (event) => {
      const mark = event.target.closest("[data-tip]") ?? nearest(marks, event.clientX, event.clientY);
      if (mark) show(mark, event.clientX, event.clientY);
      else hide();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    let at = -1;
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      at = at < 0 && step < 0 ? marks.length - 1 : (at + step + marks.length) % marks.length;
      const box = marks[at].getBoundingClientRect();
      show(marks[at], box.left + box.width / 2, box.top + box.height / 2);
    });
  }

  function unfolded(table, place) {
    if (![...state.keys()].some((key) => key.startsWith(`${place}.`))) return;
    for (let fold = table.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  }

  document.querySelectorAll("table[data-table]").forEach((table, at) => {
    for (const prepare of [filterable, sortable, unfolded]) prepare(table, at + 1);
  });
  document.querySelectorAll("code.command").forEach(copyable);
  document.querySelectorAll(".plate svg").forEach(speaking);
  addEventListener("scroll", hide, { passive: true });
})();
