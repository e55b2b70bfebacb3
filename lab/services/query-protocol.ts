/** The form that EC2 and Auto Scaling are asked in. */
import type { HttpAnswer, HttpRequest } from "./http.ts";
import { Parameters } from "./parameters.ts";
import { xmlDocument, type XmlFields } from "./xml.ts";

/** By POST or GET; what is said in the body is said last. */
export function queryParameters({ query, body }: HttpRequest): Parameters {
  const [asked, sent] = [query, Buffer.from(body).toString("utf8")].map((text) => new URLSearchParams(text));
  return new Parameters([...(asked ?? []), ...(sent ?? [])]);
}

export function xmlAnswer(
  name: string,
  fields: XmlFields,
  { status = 200, namespace }: { readonly status?: number; readonly namespace?: string },
): HttpAnswer {
  return {
    status,
    headers: { "content-type": "text/xml;charset=UTF-8" },
    body: xmlDocument(name, fields, namespace),
  };
}
