import { IpPort } from "../../../../agent/src/base/address.ts";
import { instant } from "../../../../agent/src/base/time.ts";
import { direct, regionId, relay } from "../../../../agent/src/core/path/path.ts";
import { PlainPath } from "../../../../agent/src/core/path/plain-path.ts";
import { countingRandom } from "../../../sim/random.ts";

const configured = IpPort.parse("203.0.113.2:51820");
const elsewhere = IpPort.parse("203.0.113.9:1024");
const now = instant(1_000);

test("packets go where it is configured, at once and without a question, and as long as the tunnel takes", () => {
  const path = new PlainPath(countingRandom(), 9000, configured);
  expect(path.pathsFor(true, now)).toEqual([direct(configured)]);
  expect([path.directNow(), path.mtu]).toEqual([{ address: configured, inDoubt: false }, 9000]);
  expect([path.pollTransmit(), path.pollTimeout(), path.ping()]).toEqual([undefined, undefined, undefined]);
});

test("a peer that proves its key from another address is followed there", () => {
  const path = new PlainPath(countingRandom(), 1420, undefined);
  expect([path.pathsFor(true, now), path.directNow()]).toEqual([[], undefined]);
  path.handleAuthenticated(direct(elsewhere));
  path.handleAuthenticated(relay(regionId(900)));
  expect(path.directAddress()).toEqual(elsewhere);
  path.handleSendError();
  path.handleNetworkChange();
  expect(path.pathsFor(false, now)).toEqual([direct(elsewhere)]);
});

test("it is in use for as long as something of our own was sent lately", () => {
  const path = new PlainPath(countingRandom(), 1420, configured);
  expect(path.isActive(now)).toBe(false);
  path.pathsFor(false, now);
  expect(path.isActive(now)).toBe(false);
  path.pathsFor(true, now);
  expect([path.isActive(instant(45_999)), path.isActive(instant(46_000))]).toEqual([true, false]);
});
