import { UsageError } from "../../../agent/src/base/errors.ts";
import { checkSwitches } from "../../../agent/src/roles/switches.ts";

test("a switch that is absent, empty or one of those that there are is taken", () => {
  for (const env of [
    {},
    { SALLYPORT_AEAD: "", SALLYPORT_NO_GSO: "" },
    { SALLYPORT_DATAPLANE: "off", SALLYPORT_AEAD: "openssl-raw", SALLYPORT_NO_GRO: "0" },
    { SALLYPORT_DATAPLANE: "on", SALLYPORT_AEAD: "node-crypto", SALLYPORT_NO_FFI: "1" },
  ])
    expect(() => checkSwitches(env)).not.toThrow();
});

test("what a switch can not be is refused with what it can, all mistakes at once", () => {
  const env = { SALLYPORT_AEAD: "opensll-raw", SALLYPORT_DATAPLANE: "Off", SALLYPORT_NO_TUN_OFFLOAD: "true" };
  const check = (): void => checkSwitches(env);
  expect(check).toThrow(UsageError);
  expect(check).toThrow(
    [
      'SALLYPORT_DATAPLANE is "Off": give on, off, or leave it out',
      'SALLYPORT_AEAD is "opensll-raw": give openssl-raw, openssl-raw-calls, openssl-evp, wasm, node-crypto, or leave it out',
      'SALLYPORT_NO_TUN_OFFLOAD is "true": give 0, 1, or leave it out',
    ].join("\n"),
  );
});
