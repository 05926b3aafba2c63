/** A line between a dialing side and a port that the test can cut wherever it likes. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";

export interface Relay extends AsyncDisposable {
  /** HOST:PORT to dial. */
  readonly address: string;
  /** What each connection's dialing side has said, in the order in which they came. */
  readonly said: Buffer[];
}

/** `cutAfter` says after how many bytes of its dialing side a connection is cut (the first is 0); undefined for never. */
export async function openRelay(
  to: string,
  cutAfter: (connection: number) => number | undefined = () => undefined,
): Promise<Relay> {
  const { host, port } = parseAddress(to);
  const said: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const number = said.push(Buffer.alloc(0)) - 1;
    const limit = cutAfter(number) ?? Number.POSITIVE_INFINITY;
    const far = connect({ host, port });
    const cut = (): void => {
      client.destroy();
      far.destroy();
    };
    for (const socket of [client, far]) {
      sockets.add(socket.on("error", cut).on("close", cut));
    }
    client.on("data", (bytes) => {
      const room = limit - said[number]!.byteLength;
      const passed = bytes.subarray(0, room);
      said[number] = Buffer.concat([said[number]!, passed]);
      // What is passed arrives before the line is cut.
      if (bytes.byteLength < room) far.write(passed);
      else far.end(passed, cut);
    });
    far.on("data", (bytes) => client.write(bytes));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    said,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
