/** What a hub keeps beside its store: who it is, and the secrets of the two tokens that it gives out. */
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { loadIdentity } from "../wire/trust/identity-file.ts";
import type { Identity } from "../wire/trust/keys.ts";
import { formatAddress, parseAddress } from "../wire/trust/address.ts";
import { formatToken } from "../wire/trust/token.ts";

export interface HubSecrets {
  readonly hub: Identity;
  /** Whoever has it is a client. */
  readonly client: Identity;
  /** Whoever has it may bring a machine in. */
  readonly invite: Identity;
}

/** Made at the first start, read at later ones: a hub that starts again keeps its tokens. */
export async function loadSecrets(directory: string): Promise<HubSecrets> {
  return {
    hub: await loadIdentity(join(directory, "hub.identity")),
    client: await loadIdentity(join(directory, "client.identity")),
    invite: await loadIdentity(join(directory, "invite.identity")),
  };
}

export interface HubTokens {
  readonly clientToken: string;
  readonly joinToken: string;
}

/** The tokens of a hub that listens at `address`. */
export function makeTokens({ hub, client, invite }: HubSecrets, address: string): HubTokens {
  const { curveKey, signingKey } = hub;
  const common = { curveKey, signingKey, address: reachableAddress(address) };
  return {
    clientToken: formatToken({ ...common, kind: "client", secret: client.exportSecret() }),
    joinToken: formatToken({ ...common, kind: "join", secret: invite.exportSecret() }),
  };
}

/** A port that listens on all addresses is told under one that other machines can dial. */
function reachableAddress(address: string): string {
  const { host, port } = parseAddress(address);
  if (host !== "0.0.0.0" && host !== "::") return address;
  const outward = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  return formatAddress({ host: outward?.address ?? "127.0.0.1", port });
}
