// The page's elements.

export const byId = (id) => document.getElementById(id);

/** Says something in an element, unless it says so already: what is said again is read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Tells what came of something that was asked for. */
export function tell(text, isFailure = false) {
  byId("outcome").classList.toggle("failed", isFailure);
  say(byId("outcome"), text);
}
