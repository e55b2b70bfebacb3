// A DNS server for the lab: listens at ADDRESS, knows the names given as NAME=IP, and prints each name that it was asked for.
import { createSocket } from "node:dgram";

const [, , address, ...known] = process.argv;
const records = new Map(known.map((record) => record.split("=")));
const socket = createSocket("udp4");

socket.on("message", (question, from) => {
  const [name, end] = nameAt(question, 12);
  const type = question.readUInt16BE(end);
  process.stdout.write(`asked ${name}\n`);
  const found = records.get(name);
  const isAnswered = found !== undefined && type === 1;
  const header = Buffer.alloc(12);
  header.writeUInt16BE(question.readUInt16BE(0), 0);
  header.writeUInt16BE(found === undefined ? 0x8183 : 0x8180, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(isAnswered ? 1 : 0, 6);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...(found ?? "0.0.0.0").split(".")]);
  const answer = [header, question.subarray(12, end + 4), ...(isAnswered ? [record] : [])];
  socket.send(Buffer.concat(answer), from.port, from.address);
});
socket.bind(53, address, () => process.stdout.write("ready\n"));

function nameAt(message, start) {
  const labels = [];
  let at = start;
  for (let length = message[at]; length > 0; length = message[at]) {
    labels.push(message.toString("ascii", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return [labels.join("."), at + 1];
}
