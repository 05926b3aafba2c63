/** A server and those who dial it, in one process but over real sockets. */
import type { Dealer } from "zeromq";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import type { DialOptions } from "../../../nodes/wire/zeromq/dial.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { PublicIdentity } from "../../../nodes/wire/trust/keys.ts";
import type { Link, Role } from "../../../nodes/wire/link.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import { WireServer } from "../../../nodes/wire/zeromq/server.ts";
import type { WireServerOptions } from "../../../nodes/wire/zeromq/server.ts";
import type { WireEvent } from "../../../nodes/wire/zeromq/events.ts";
import { createContext, createDealer } from "../../../nodes/wire/zeromq/sockets.ts";
import { until } from "../../suites/until.ts";

export interface Network {
  readonly hub: Identity;
  readonly allowList: AllowList;
  readonly server: WireServer;
  readonly address: string;
  /** What the server reported, and the links that it accepted. */
  readonly events: WireEvent[];
  readonly links: Link[];
  /** Dials as `identity` (a fresh one by default), which is put on the allow list in its role unless it is there. */
  dial(options?: Partial<DialOptions> & { readonly unlisted?: boolean }): Promise<Link>;
  /** The server's end of a link. */
  accepted(link: Link): Promise<Link>;
  /** A bare socket that is let in as `identity`. */
  socket(identity: Identity): Dealer;
  /** The server is gone without a goodbye. */
  kill(): void;
  close(): Promise<void>;
}

const context = createContext();

/** Puts an identity on an allow list. */
export function list(
  allowList: AllowList,
  { signingKey, curveKey }: PublicIdentity,
  role: Role,
  label = "listed",
): void {
  allowList.add({ signingKey, curveKey, role, label });
}

export async function openNetwork(options: Partial<WireServerOptions> = {}): Promise<Network> {
  const hub = options.identity ?? Identity.create();
  const allowList = options.allowList ?? new AllowList();
  const events: WireEvent[] = [];
  const links: Link[] = [];
  const dialed: Link[] = [];
  const sockets: Dealer[] = [];
  const server = new WireServer({
    identity: hub,
    allowList,
    role: "hub",
    label: "hub",
    onEvent: (event) => events.push(event),
    ...options,
    onLink: (link) => {
      links.push(link);
      options.onLink?.(link);
    },
  });
  await server.bind("127.0.0.1", 0);
  return {
    hub,
    allowList,
    server,
    address: server.address,
    events,
    links,
    dial: async ({ unlisted = false, ...dialOptions } = {}) => {
      const identity = dialOptions.identity ?? Identity.create();
      const role = dialOptions.role ?? "client";
      const isListed = allowList.byId(identity.id) !== undefined;
      if (!unlisted && !isListed) list(allowList, identity, role, dialOptions.label);
      const link = await dial({
        address: server.address,
        server: hub,
        label: "peer",
        ...dialOptions,
        role,
        identity,
      });
      dialed.push(link);
      return link;
    },
    accepted: async (link) => {
      const index = dialed.indexOf(link);
      await until(() => links.length > index);
      return links[index]!;
    },
    socket: (identity) => {
      const socket = createDealer({ context, identity, serverKey: hub.curveKey, ipv6: false });
      socket.linger = 0;
      socket.connect(`tcp://${server.address}`);
      sockets.push(socket);
      return socket;
    },
    kill: () => server.kill(),
    close: async () => {
      for (const socket of sockets) socket.close();
      await Promise.all(dialed.map((link) => link.close()));
      await server.close();
    },
  };
}
