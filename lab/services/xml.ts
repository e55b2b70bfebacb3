/** XML as the query protocols of AWS answer: elements and text, no attributes but one namespace. */

/** A list becomes one element for each item; undefined becomes nothing. */
export type XmlValue = string | number | boolean | undefined | XmlFields | readonly XmlFields[];
export interface XmlFields {
  readonly [name: string]: XmlValue;
}

export function xmlDocument(name: string, fields: XmlFields, namespace?: string): string {
  const attribute = namespace === undefined ? "" : ` xmlns="${namespace}"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${name}${attribute}>${inside(fields)}</${name}>\n`;
}

function element(name: string, value: XmlValue): string {
  if (value === undefined) return "";
  if (Array.isArray(value)) {
    return (value as readonly XmlFields[]).map((item) => element(name, item)).join("");
  }
  const content = typeof value === "object" ? inside(value as XmlFields) : escape(String(value));
  return `<${name}>${content}</${name}>`;
}

function inside(fields: XmlFields): string {
  return Object.entries(fields)
    .map(([name, value]) => element(name, value))
    .join("");
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
