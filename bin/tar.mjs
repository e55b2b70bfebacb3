/**
 * Tar archives (POSIX ustar), as much as the agent's archive needs: regular files with short names. The same files give the
 * same bytes on every machine: no times, no owners, sorted by name.
 */

const BLOCK = 512;

/** @param files name → { content, mode } */
export function packTar(files) {
  const names = Object.keys(files).sort();
  const parts = names.flatMap((name) => {
    const { content, mode } = files[name];
    return [header(name, content.length, mode), content, Buffer.alloc(padding(content.length))];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

/** The content of one file of an archive. */
export function readTar(archive, wanted) {
  for (let at = 0; at + BLOCK <= archive.length;) {
    const name = text(archive, at, 100);
    const size = Number.parseInt(text(archive, at + 124, 12), 8) || 0;
    if (name === wanted) return archive.subarray(at + BLOCK, at + BLOCK + size);
    at += BLOCK + size + padding(size);
  }
  throw new Error(`${wanted} is not in the archive`);
}

function header(name, size, mode) {
  if (Buffer.byteLength(name) > 100) throw new Error(`${name} is too long a name`);
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0);
  block.write(octal(mode, 8), 100);
  block.write(octal(0, 8), 108); // owner
  block.write(octal(0, 8), 116); // group
  block.write(octal(size, 12), 124);
  block.write(octal(0, 12), 136); // time
  block.write(" ".repeat(8), 148); // the checksum counts as spaces
  block.write("0ustar\0" + "00", 156);
  block.write(
    octal(
      block.reduce((sum, byte) => sum + byte, 0),
      7,
    ),
    148,
  );
  return block;
}

const octal = (value, width) => `${value.toString(8).padStart(width - 1, "0")}\0`;
const padding = (size) => (BLOCK - (size % BLOCK)) % BLOCK;

function text(archive, at, length) {
  const bytes = archive.subarray(at, at + length);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? length : end);
}
