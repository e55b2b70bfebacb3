/** `performance.now()` of this thread when the system's clock was zero: each thread counts from its own start. */
export function clockZero(): number {
  return performance.now() - Number(process.hrtime.bigint()) / 1e6;
}
