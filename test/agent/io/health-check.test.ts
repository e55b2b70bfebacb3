import { connect, createServer, type Server } from "node:net";
import type { AddressInfo } from "node:net";
import { type Log, silentLog } from "../../../agent/src/base/log.ts";
import { HealthCheck } from "../../../agent/src/io/health-check.ts";

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("close", () => resolve(false)).resume();
  });
}

function occupied(): Promise<{ readonly server: Server; readonly port: number }> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "::", () =>
      resolve({ server, port: (server.address() as AddressInfo).port }),
    );
  });
}

const freed = async (server: Server): Promise<void> =>
  new Promise((resolve) => void server.close(() => resolve()));

test("the port takes connections while it is open, and none before and after", async () => {
  const { server, port } = await occupied();
  await freed(server);
  const check = new HealthCheck(port, silentLog);
  expect(await answers(port)).toBe(false);
  check.open();
  check.open();
  while (!(await answers(port))) await new Promise((resolve) => setImmediate(resolve));
  await check.close();
  expect(await answers(port)).toBe(false);
});

test("a port that another program has is said, and nothing is thrown", async () => {
  const { server, port } = await occupied();
  const said: unknown[] = [];
  const log: Log = { ...silentLog, error: (event, fields) => said.push(event, fields?.["error"]) };
  const check = new HealthCheck(port, log);
  check.open();
  await check.close();
  expect(said).toEqual(["health-check", expect.stringContaining(`TCP port ${port} is in use`)]);
  await freed(server);
});
