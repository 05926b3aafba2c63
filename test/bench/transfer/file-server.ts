/**
 * A server of files over HTTP, for tools that fetch from any, and of a repository of restic's (its REST protocol, version 1):
 * `node file-server.ts DIR PORT`. Ranges as zsync asks for them, several at once.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";

const [directory = ".", port = "0"] = process.argv.slice(2);
const BOUNDARY = "part";

createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    response.writeHead(500).end();
  });
}).listen(Number(port), "127.0.0.1");

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  const path = join(directory, decodeURIComponent(pathname));
  switch (request.method) {
    case "POST": {
      if (searchParams.has("create")) {
        for (const kind of ["data", "index", "keys", "locks", "snapshots"])
          mkdirSync(join(path, kind), { recursive: true });
        return void response.end();
      }
      const pieces: Uint8Array[] = [];
      for await (const piece of request as AsyncIterable<Uint8Array>) pieces.push(piece);
      writeFileSync(path, Buffer.concat(pieces));
      return void response.end();
    }
    case "DELETE":
      rmSync(path);
      return void response.end();
    default:
  }
  if (!existsSync(path)) return void response.writeHead(404).end();
  if (statSync(path).isDirectory()) return void response.end(JSON.stringify(readdirSync(path)));
  const file = openSync(path, "r");
  const { size } = fstatSync(file);
  const ranges = rangesOf(request.headers.range, size);
  const read = ([from, end]: Range): Buffer => {
    const bytes = Buffer.alloc(end - from);
    readSync(file, bytes, 0, bytes.byteLength, from);
    return bytes;
  };
  const [first] = ranges;
  if (request.method === "HEAD") response.writeHead(200, { "content-length": size }).end();
  else if (first === undefined) response.writeHead(200, { "content-length": size }).end(read([0, size]));
  else if (ranges.length === 1)
    response
      .writeHead(206, { "content-length": first[1] - first[0], "content-range": rangeText(first, size) })
      .end(read(first));
  else {
    const parts = ranges.flatMap((range) => [
      Buffer.from(`\r\n--${BOUNDARY}\r\ncontent-range: ${rangeText(range, size)}\r\n\r\n`),
      read(range),
    ]);
    const body = Buffer.concat([...parts, Buffer.from(`\r\n--${BOUNDARY}--\r\n`)]);
    const type = `multipart/byteranges; boundary=${BOUNDARY}`;
    response.writeHead(206, { "content-length": body.byteLength, "content-type": type }).end(body);
  }
  closeSync(file);
}

/** Where it begins, and the first byte that it has not. */
type Range = readonly [from: number, end: number];

function rangesOf(header: string | undefined, size: number): Range[] {
  return [...(header ?? "").matchAll(/(\d+)-(\d*)/g)].map(([, from, last]) => [
    Number(from),
    Math.min(size, last === "" ? size : Number(last) + 1),
  ]);
}

function rangeText([from, end]: Range, size: number): string {
  return `bytes ${from}-${end - 1}/${size}`;
}
