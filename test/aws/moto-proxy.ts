/** Stands before moto: counts what is asked, and answers some of it as AWS would on a bad day. */
import {
  createServer,
  request as forward,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly action: string;
  readonly region: string;
  readonly body: URLSearchParams;
}

export interface Refusal {
  readonly status: number;
  readonly code: string;
}

export class MotoProxy {
  readonly asked: Asked[] = [];
  /** Decides which requests are refused. */
  refuse: (asked: Asked) => Refusal | undefined = () => undefined;
  readonly #server: Server;
  readonly #target: URL;

  private constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((request, response) => this.#handle(request, response));
  }

  static async start(target: string): Promise<MotoProxy> {
    const proxy = new MotoProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  count(action: string): number {
    return this.asked.filter((one) => one.action === action).length;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    let text = "";
    request.on("data", (chunk) => (text += String(chunk)));
    request.on("end", () => {
      const body = new URLSearchParams(text);
      // …Credential=AKID/20261122/eu-central-1/ec2/aws4_request…
      const [, region = ""] =
        /Credential=[^/]+\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? "") ?? [];
      const asked = { action: body.get("Action") ?? "", region, body };
      this.asked.push(asked);
      const refusal = this.refuse(asked);
      if (refusal === undefined) this.#forward(request, text, response);
      else response.writeHead(refusal.status, { "content-type": "text/xml" }).end(refusalXml(refusal.code));
    });
  }

  #forward(request: IncomingMessage, text: string, response: ServerResponse): void {
    const { method = "POST", url = "/", headers } = request;
    const { hostname, port } = this.#target;
    const passed = forward({ hostname, port, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    passed.end(text);
  }
}

function refusalXml(code: string): string {
  return `<Response><Errors><Error><Code>${code}</Code><Message>no</Message></Error></Errors><RequestID>r</RequestID></Response>`;
}
