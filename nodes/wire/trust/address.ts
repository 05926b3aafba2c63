import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { isIP, isIPv4, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";
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
    (match?.[1] === undefined || isIPv6(host)) &&
    // Systems read "0" and "127.1" as IP addresses, each in its own way.
    (isIPv4(host) || !/^[0-9.]+$/.test(host));
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

/** Whether it is where a port listens on all of a machine's addresses: no peer can dial that. */
export function isUnspecified(host: string): boolean {
  if (isIPv4(host)) return host === "0.0.0.0";
  return isIPv6(host) && /^\[::(ffff:0:0)?\]$/.test(new URL(`http://[${host}]`).hostname);
}

/** Whether only the machine itself reaches a port that listens there. */
export function isLoopback(host: string): boolean {
  if (!isIPv6(host)) return host === "localhost" || (isIPv4(host) && host.startsWith("127."));
  return /^\[::(1|ffff:7f[0-9a-f]{2}:[0-9a-f]+)\]$/.test(new URL(`http://[${host}]`).hostname);
}

/** HOST:PORT, with `ip` for a host that no peer can dial. Throws PFS_ADDRESS_INVALID when `text` is no address. */
export function withHost(text: string, ip: string): string {
  const { host, port } = parseAddress(text);
  return isUnspecified(host) ? formatAddress({ host: plainIp(ip), port }) : text;
}

/** An IPv4 address that came over a socket for both families, as IPv4 writes it. */
export function plainIp(ip: string): string {
  return ip.replace(/^::ffff:(?=[0-9]+\.)/i, "");
}

/**
 * Where others reach a port that listens at `listening` (HOST:PORT). One that listens on all addresses is told under that from which
 * this machine reaches `peer` (HOST:PORT), or without one, or when that is this machine itself, under its first that leads out.
 */
export async function reachableAddress(listening: string, peer?: string): Promise<string> {
  const { host } = parseAddress(listening);
  if (!isUnspecified(host)) return listening;
  const towards = peer === undefined ? undefined : await addressTowards(parseAddress(peer));
  return withHost(listening, towards ?? outwardIp(isIPv6(host)) ?? "127.0.0.1");
}

/** This machine's IP address on the way to a peer, by asking the system for a route: nothing is sent. */
async function addressTowards({ host, port }: Address): Promise<string | undefined> {
  try {
    const { address, family } = await lookup(host);
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    try {
      socket.connect(port, address);
      await once(socket, "connect");
      const own = plainIp(socket.address().address);
      return own.startsWith("127.") || own === "::1" || isUnspecified(own) ? undefined : own;
    } finally {
      socket.close();
    }
  } catch {
    return undefined;
  }
}

/** The first IP address of this machine that others can reach, IPv4 before IPv6. */
function outwardIp(hasIpv6: boolean): string | undefined {
  const outward = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0);
  const found = outward.find(({ family }) => family === "IPv4") ?? (hasIpv6 ? outward[0] : undefined);
  return found?.address;
}

/** An address as ZeroMQ writes it, and whether its socket needs IPv6. Port 0 leaves the choice to the system. */
export interface Endpoint {
  readonly endpoint: string;
  readonly ipv6: boolean;
}

/**
 * All addresses that the host has, in the system's order. It is looked up as the system does (ZeroMQ's own look-up tries one
 * answer only, and blocks). Rejects with the system's error.
 */
export async function resolveEndpoints({ host, port }: Address): Promise<[Endpoint, ...Endpoint[]]> {
  const found = isIP(host) === 0 ? await lookup(host, { all: true }) : [{ address: host }];
  const ips = new Set(found.map(({ address }) => address));
  const endpoints = [...ips].map((ip) => {
    const ipv6 = isIPv6(ip);
    return { endpoint: `tcp://${ipv6 ? `[${ip}]` : ip}:${port === 0 ? "*" : port}`, ipv6 };
  });
  return endpoints as [Endpoint, ...Endpoint[]];
}

/** The port of a `tcp://` endpoint. */
export function endpointPort(endpoint: string): number {
  return Number(endpoint.slice(endpoint.lastIndexOf(":") + 1));
}
