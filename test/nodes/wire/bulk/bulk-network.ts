/** A port that grants bulk channels, who opens some, and somebody on the line between them. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import type { BulkChannel, BulkLink, BulkLinkOptions } from "../../../../nodes/wire/bulk/dialing.ts";
import type { Link } from "../../../../nodes/wire/link.ts";
import { parseAddress } from "../../../../nodes/wire/trust/address.ts";
import type { DialOptions } from "../../../../nodes/wire/zeromq/dial.ts";
import { until } from "../../../suites/until.ts";
import { openNetwork } from "../network.ts";
import type { Network } from "../network.ts";

export interface BulkNetwork {
  readonly network: Network;
  /** The port's ends of channels, in the order in which they were opened. */
  readonly accepted: BulkChannel[];
  /** A link of its own, its channels, and the two ends of one of them. */
  open(
    options?: BulkLinkOptions & { readonly dial?: Partial<DialOptions> },
  ): Promise<{ link: Link; bulk: BulkLink; near: BulkChannel; far: BulkChannel }>;
}

export async function openBulkNetwork(allowsClear = false): Promise<BulkNetwork> {
  const accepted: BulkChannel[] = [];
  const network = await openNetwork({
    bulk: { allowsClear, onChannel: (channel) => accepted.push(channel) },
    onLink: (link) => link.onRequest((_, reply) => reply({ type: 23 })),
  });
  return {
    network,
    accepted,
    open: async ({ dial = {}, ...options } = {}) => {
      const link = await network.dial({ ...dial, bulk: options });
      const bulk = link.bulk!;
      const before = accepted.length;
      const near = await bulk.channel();
      await until(() => accepted.length > before);
      return { link, bulk, near, far: accepted[before]! };
    },
  };
}

export interface Line extends AsyncDisposable {
  /** HOST:PORT to dial. */
  readonly address: string;
  /** Ends the connections that began so late. */
  cut(from: number): void;
}

/** What becomes of bytes of a connection (the first is 0), of which so many went the same way before. */
export type Tamper = (connection: number, isToPort: boolean, bytes: Buffer, before: number) => Buffer;

export async function openLine(to: string, tamper: Tamper = (_, __, bytes) => bytes): Promise<Line> {
  const sockets: [Socket, Socket][] = [];
  const server = createServer((client) => {
    const far = connect(parseAddress(to));
    const number = sockets.push([client, far]) - 1;
    const pass = (from: Socket, into: Socket, isToPort: boolean): void => {
      let before = 0;
      from.on("data", (bytes) => {
        into.write(tamper(number, isToPort, bytes, before));
        before += bytes.byteLength;
      });
      from.on("error", () => into.destroy());
      from.on("close", () => into.end());
    };
    pass(client, far, true);
    pass(far, client, false);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = (from: number): void => {
    for (const socket of sockets.slice(from).flat()) socket.destroy();
  };
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    [Symbol.asyncDispose]: async () => {
      cut(0);
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
