/** Runs in a page: what a reader with other eyes, or without, would stumble over. One line for each. */
/* global document, getComputedStyle */

/** WCAG 2.2, 1.4.3: texts whose contrast with what is behind them is below 4.5. */
function faintTexts() {
  const parse = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const hasText = (element) =>
    [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim() !== "");
  return [...document.querySelectorAll("body *:not(script, style)")]
    .filter((element) => hasText(element) && element.getClientRects().length > 0)
    .filter((element) => {
      const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    })
    .map((element) => `faint: ${element.tagName} ${element.textContent}`);
}

/** Controls and regions that a screen reader could not name. */
function namelessControls() {
  const named = (element) =>
    (element.getAttribute("aria-label") ?? element.textContent).trim() !== "" ||
    document.getElementById(element.getAttribute("aria-labelledby") ?? "") !== null;
  return [...document.querySelectorAll("button, input, section, table, [role]:not([role=alert])")]
    .filter((element) => !named(element))
    .map((element) => `nameless: ${element.outerHTML}`);
}

function doubledIds() {
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  return ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `twice: ${id}`);
}

globalThis.pageFaults = [...faintTexts(), ...namelessControls(), ...doubledIds()];
