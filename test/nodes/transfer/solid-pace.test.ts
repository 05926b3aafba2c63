/** When chunks are compressed together: a link and a core of whatever speed, by a clock of their own. */
import { expect, test } from "vitest";
import { SOLID_LINK_BYTES_MAX, TRANSFER_BOTTLENECK_SHARE } from "../../../nodes/limits.ts";
import { SolidPace } from "../../../nodes/transfer/solid-pace.ts";

const MIB = 1024 * 1024;
const WINDOW = 2 * MIB;

interface World {
  /** Bytes that the link carries in a second, and of the file that a core compresses. */
  readonly link: number | ((sent: number) => number);
  readonly core: number;
  /** Bytes of it that the receiver places. */
  readonly receiver?: number;
  /** What is left of the file's bytes as they are stored, and together. */
  readonly stored: number;
  readonly together: number;
}

/** Sends a file in messages of 512 KiB of it. Says of each whether it went together, and in how many seconds all went. */
function send(world: World, bytes: number): { readonly modes: boolean[]; readonly seconds: number } {
  let now = 0;
  const pace = new SolidPace(WINDOW, () => now);
  const onItsWay: { readonly wire: number; readonly arrives: number; readonly placed: number }[] = [];
  let [linkFree, placed] = [0, 0];
  const modes: boolean[] = [];
  for (let sent = 0; sent < bytes; sent += MIB / 2) {
    const inFlight = (): number => onItsWay.reduce((sum, { wire }) => sum + wire, 0);
    while (inFlight() > WINDOW - MIB / 2) now = Math.max(now, onItsWay.shift()!.placed);
    const waiting = onItsWay.reduce((sum, { wire, arrives }) => sum + (arrives <= now ? wire : 0), 0);
    const much = WINDOW * TRANSFER_BOTTLENECK_SHARE;
    const isUnused =
      WINDOW - onItsWay.reduce((sum, { wire, placed: at }) => sum + (at > now ? wire : 0), 0) >= much;
    pace.wanted(waiting >= much ? "receiver" : isUnused ? "sender" : "link");
    const { isTogether } = pace;
    modes.push(isTogether);
    const wire = (MIB / 2) * (isTogether ? world.together : world.stored);
    if (isTogether) {
      const ms = (MIB / 2 / world.core) * 1000;
      now += ms;
      pace.made({ plain: MIB / 2, stored: (MIB / 2) * world.stored, together: wire, ms });
    }
    pace.handed(wire, (MIB / 2) * world.stored);
    const rate = typeof world.link === "number" ? world.link : world.link(sent);
    linkFree = Math.max(linkFree, now) + (wire / rate) * 1000;
    placed = Math.max(placed, linkFree) + (MIB / 2 / (world.receiver ?? Number.POSITIVE_INFINITY)) * 1000;
    onItsWay.push({ wire, arrives: linkFree, placed });
  }
  return { modes, seconds: placed / 1000 };
}

function share(modes: readonly boolean[]): number {
  return modes.filter(Boolean).length / modes.length;
}

test("chunks go together over a link that is slower than a core, and are there sooner", () => {
  const world = { link: 12 * MIB, core: 60 * MIB, stored: 0.4, together: 0.32 };
  const { modes, seconds } = send(world, 128 * MIB);
  expect(share(modes)).toBeGreaterThan(0.9);
  expect(seconds).toBeLessThan((128 * world.stored) / 12);
});

test("they go as they are stored over a fast link", () => {
  const world = { link: 2 * SOLID_LINK_BYTES_MAX, core: 60 * MIB, stored: 0.4, together: 0.32 };
  expect(send(world, 128 * MIB).modes).not.toContain(true);
});

test("they go as they are stored where it is the receiver that takes its time", () => {
  const world = { link: 200 * MIB, core: 60 * MIB, receiver: 40 * MIB, stored: 0.4, together: 0.32 };
  expect(send(world, 512 * MIB).modes).not.toContain(true);
});

test("a link that has become slower than the receiver is noticed", () => {
  const link = (sent: number): number => (sent < 256 * MIB ? 200 * MIB : 8 * MIB);
  const { modes } = send(
    { link, core: 60 * MIB, receiver: 40 * MIB, stored: 0.4, together: 0.32 },
    1024 * MIB,
  );
  expect(share(modes.slice(0, 512))).toBeLessThan(0.2);
  expect(share(modes.slice(-1024))).toBeGreaterThan(0.8);
});

test("a core that is slower than the link is asked for less and less", () => {
  const world = { link: 12 * MIB, core: 8 * MIB, stored: 0.4, together: 0.32 };
  const { modes, seconds } = send(world, 2048 * MIB);
  expect(modes).toContain(true);
  expect(share(modes.slice(0, 512))).toBeGreaterThan(share(modes.slice(-1024)));
  expect(seconds).toBeLessThan(((2048 * world.stored) / 12) * 1.2);
});

test("and where it is far too slow, it is not asked for long", () => {
  const world = { link: 20 * MIB, core: MIB, stored: 0.4, together: 0.32 };
  const { modes } = send(world, 128 * MIB);
  expect(modes).toContain(true);
  expect(modes.filter(Boolean).length).toBeLessThan(20);
});

test("what is hardly smaller is left as it is", () => {
  const world = { link: 12 * MIB, core: 60 * MIB, stored: 0.4, together: 0.395 };
  expect(share(send(world, 512 * MIB).modes)).toBeLessThan(0.3);
});

test("a link that has become fast is noticed", () => {
  const link = (sent: number): number => (sent < 256 * MIB ? 4 * MIB : 200 * MIB);
  const { modes } = send({ link, core: 60 * MIB, stored: 0.4, together: 0.32 }, 1024 * MIB);
  expect(share(modes.slice(0, 512))).toBeGreaterThan(0.9);
  expect(share(modes.slice(-1024))).toBeLessThan(0.1);
});
