// The console's script: keeps pages fresh, links boxes and lines, copies texts, tells times in the reader's zone.
// Pages work without it. Nothing here makes markup out of text: new parts of a page are parsed from our own pages.
"use strict";

const serverAhead = Date.parse(document.body.dataset.now) - Date.now();
const now = () => Date.now() + serverAhead;

// --- times

// The Swedish way to write a date is the one nobody misreads: 2026-01-05 14:00:00.
const clock = new Intl.DateTimeFormat("sv-SE", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

function age(ms) {
  const s = Math.round(Math.abs(ms) / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

function elapsed(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function say(item, text) {
  if (item.textContent !== text) item.textContent = text; // Else a selection in it would be lost each second.
}

function tellTimes(root = document) {
  for (const item of root.querySelectorAll("time")) {
    const at = Date.parse(item.dateTime);
    const text = clock.format(at);
    item.title = item.dateTime;
    if (item.hasAttribute("data-ago")) {
      item.title = text;
      const past = item.hasAttribute("data-due") ? "due now" : `${age(now() - at)} ago`;
      say(item, at > now() ? `in ${age(at - now())}` : past);
    } else {
      say(item, text);
    }
  }
  for (const item of root.querySelectorAll("[data-since]")) say(item, elapsed(now() - Date.parse(item.dataset.since)));
}

// --- fresh parts

const shown = new Map();
for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.outerHTML);

let isFetching = false, isStale = false, timer = 0, last = 0;

function askFresh(wait = 250) {
  if (document.hidden || isFetching) { isStale = true; return; }
  if (!timer) timer = setTimeout(fetchFresh, Math.max(wait, last + 1000 - Date.now()));
}

async function fetchFresh() {
  timer = 0;
  isFetching = true;
  isStale = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.ok) replaceParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* The server is away; the event source comes back with it. */ }
  last = Date.now();
  isFetching = false;
  if (isStale) askFresh();
}

function replaceParts(page) {
  document.title = page.title;
  for (const part of page.querySelectorAll("[data-live]")) {
    const old = document.getElementById(part.id);
    const html = part.outerHTML;
    if (shown.get(part.id) === html) continue;
    if (old && isInUse(old)) { isStale = true; continue; }
    shown.set(part.id, html);
    const focused = document.activeElement?.closest("tr[id], li[id]")?.id;
    const fresh = document.importNode(part, true);
    if (old) old.replaceWith(fresh);
    else document.getElementById("main").append(fresh);
    prepare(fresh);
    if (focused && !document.activeElement?.closest(`#${CSS.escape(focused)}`)) {
      const again = document.getElementById(focused);
      (again?.querySelector("a[data-row]") ?? again)?.focus({ preventScroll: true });
    }
  }
}

function isInUse(part) {
  const selection = getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}

function listen() {
  const address = document.body.dataset.events;
  if (!address) return;
  const mark = document.querySelector("[data-live-mark]");
  const source = new EventSource(address);
  source.onopen = () => { mark.hidden = false; mark.classList.remove("off"); mark.textContent = "live"; askFresh(); };
  source.onerror = () => { mark.classList.add("off"); mark.textContent = "reconnecting"; };
  source.addEventListener("change", () => askFresh());
  source.addEventListener("beat", () => askFresh());
  document.addEventListener("visibilitychange", () => { if (!document.hidden && isStale) askFresh(0); });
  addEventListener("pagehide", () => source.close());
}

// --- boxes and lines

function heat(number, is) {
  for (const item of document.querySelectorAll(`[data-line="${number}"]`)) item.classList.toggle("is-hot", is);
}

function onPoint(event, is) {
  const item = event.target.closest?.("[data-line]");
  if (!item) return;
  heat(item.dataset.line, is);
  if (is && item.matches("polygon")) document.getElementById(`line-${item.dataset.line}`)?.scrollIntoView({ block: "nearest" });
  if (is && event.type === "focusin") document.getElementById(`box-${item.dataset.line}`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

for (const [type, is] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(type, (event) => onPoint(event, is));
}

// --- copying

function textOf(source) {
  if (!source.hasAttribute("data-copy-lines")) return source.textContent;
  return [...source.querySelectorAll(".text")].map((line) => line.textContent).join("\n");
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(textOf(source));
    button.textContent = "Copied";
  } catch {
    // Without https, off this machine, there is no clipboard: select it for the reader to copy.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});

// --- keys

function moveRow(step) {
  const rows = [...document.querySelectorAll("a[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step))].focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "j") moveRow(1);
  else if (event.key === "k") moveRow(-1);
  else if (event.key === "/") {
    const field = document.querySelector("[data-hotkey='/']");
    if (field) { event.preventDefault(); field.focus(); }
  }
});

// --- start

function prepare(root) {
  tellTimes(root);
  for (const item of root.querySelectorAll("[data-copy], [data-needs-script]")) item.hidden = false;
  if (root.matches?.("[data-again]") || root.querySelector("[data-again]")) setTimeout(() => askFresh(), 1500);
}

prepare(document);
setInterval(() => tellTimes(), 1000);
listen();
