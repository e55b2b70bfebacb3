/** Of this program; the same as in package.json, which the bundle does not carry. A test holds them together. */
export const VERSION = "0.1.0";
