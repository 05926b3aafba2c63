import { lookup } from "node:dns/promises";
import { isIP, isIPv6 } from "node:net";
import { WireError, WireErrorCode } from "../../errors.ts";
import { ADDRESS_CHARACTERS_MAX } from "../../limits.ts";

export interface Address {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Reads HOST:PORT; an IPv6 address stands in brackets. Throws PFS_ADDRESS_INVALID. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s[\]:/@]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  const valid =
    text.length <= ADDRESS_CHARACTERS_MAX &&
    host !== "" &&
    port >= 1 &&
    port <= 65_535 &&
    (match?.[1] === undefined || isIPv6(host));
  if (!valid) {
    throw new WireError(WireErrorCode.addressInvalid, `"${text.slice(0, 300)}" is not HOST:PORT`, {
      address: text.slice(0, 300),
    });
  }
  return { host, port };
}

/** HOST:PORT. */
export function formatAddress({ host, port }: Address): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An address as ZeroMQ writes it, and whether its socket needs IPv6. Port 0 leaves the choice to the system. */
export interface Endpoint {
  readonly endpoint: string;
  readonly ipv6: boolean;
}

/**
 * Looks the host up as the system does (ZeroMQ's own look-up tries one answer only, and blocks). Rejects with the
 * system's error.
 */
export async function resolveEndpoint({ host, port }: Address): Promise<Endpoint> {
  const ip = isIP(host) === 0 ? (await lookup(host)).address : host;
  const ipv6 = isIPv6(ip);
  return { endpoint: `tcp://${ipv6 ? `[${ip}]` : ip}:${port === 0 ? "*" : port}`, ipv6 };
}

/** The port of a `tcp://` endpoint. */
export function endpointPort(endpoint: string): number {
  return Number(endpoint.slice(endpoint.lastIndexOf(":") + 1));
}
