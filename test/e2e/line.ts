/** A line between clients and a hub: it counts what passes, stands still where it is told to, and can be cut. */
import { createServer, connect as connectTo } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { once } from "node:events";
import { afterAll } from "vitest";
import { formatToken, parseToken, TokenKind } from "../../nodes/wire/trust/token.ts";

export class Line {
  /** Bytes that came from the hub, and that went to it. */
  received = 0;
  sent = 0;
  connections = 0;
  /** Called with every piece that passes. */
  onBytes: () => void = () => {};
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isHeld = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** A line to HOST:PORT. */
  static async to(address: string): Promise<Line> {
    const at = address.lastIndexOf(":");
    const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))];
    const server = createServer((near) => line.#join(near, connectTo(port, host)));
    const line = new Line(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    lines.add(line);
    return line;
  }

  /** The token of the same hub, at this end of the line. */
  token(clientToken: string): string {
    const { port } = this.#server.address() as AddressInfo;
    return formatToken({ ...parseToken(clientToken, TokenKind.client), address: `127.0.0.1:${port}` });
  }

  /** Ends all connections without a word. New ones may be made. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#isHeld = false;
  }

  /** Nothing passes any more, and nobody is told, until it is cut. */
  hold(): void {
    this.#isHeld = true;
    for (const socket of this.#sockets) socket.pause();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #join(near: Socket, far: Socket): void {
    this.connections++;
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => undefined);
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on("data", (piece: Buffer) => {
        if (from === far) this.received += piece.byteLength;
        else this.sent += piece.byteLength;
        if (!to.write(piece)) {
          from.pause();
          to.once("drain", () => {
            if (!this.#isHeld) from.resume();
          });
        }
        this.onBytes();
      });
    }
  }
}

const lines = new Set<Line>();
afterAll(() => {
  for (const line of lines) line.close();
});
