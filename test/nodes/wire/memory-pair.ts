/** Two links joined without sockets, for tests of what links promise and of what is built on them. */
import { TICK_MS } from "../../../nodes/limits.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Link, PeerInfo } from "../../../nodes/wire/link.ts";
import { SessionLink } from "../../../nodes/wire/session/session-link.ts";

export interface MemoryPair {
  readonly near: Link;
  readonly far: Link;
  /** The connection breaks; both sides notice. */
  readonly cut: () => void;
}

/** `near` and `far` are what each side says of itself to the other. */
export function memoryPair(
  sides: { readonly near?: Partial<PeerInfo>; readonly far?: Partial<PeerInfo> } = {},
): MemoryPair {
  const ends: SessionLink[] = [];
  const end = (index: number, peer: PeerInfo): SessionLink => {
    let isAwake = false;
    const run = (): void => {
      isAwake = false;
      for (let parts = ends[index]!.next(); parts !== undefined; parts = ends[index]!.next()) {
        // A copy, as it would be on another machine.
        const copy = parts.map((part) => Uint8Array.from(part));
        queueMicrotask(() => ends[1 - index]!.receive(copy));
      }
    };
    const wake = (): void => {
      if (isAwake) return;
      isAwake = true;
      setImmediate(run);
    };
    const ticker = setInterval(() => ends[index]!.tick(), TICK_MS).unref();
    return new SessionLink({
      peer,
      session: new Uint8Array(32),
      now: () => performance.now(),
      port: { wake, over: () => clearInterval(ticker) },
    });
  };
  ends.push(end(0, somebody({ label: "far", role: "hub", ...sides.far })));
  ends.push(end(1, somebody({ label: "near", role: "node", ...sides.near })));
  const [near, far] = ends as [SessionLink, SessionLink];
  return {
    near,
    far,
    cut: () => {
      near.lose("cut");
      far.lose("cut");
    },
  };
}

function somebody(said: Pick<PeerInfo, "label" | "role"> & Partial<PeerInfo>): PeerInfo {
  const { id, signingKey, curveKey } = Identity.create();
  return { id, features: [], executors: [], version: 1, signingKey, curveKey, ...said };
}
