/** What goes wrong in the simulated world of transfers. */
export interface Trouble {
  /** Of messages: lost without the channel's end; and milliseconds that each one takes. */
  readonly drops: number;
  readonly delayMs: number;
  /** Milliseconds between ends of channels, and between crashes of each machine; infinite for never. */
  readonly breaksMs: number;
  readonly crashesMs: number;
  /** Of chunks: damaged at the sender, of which so many can be mended, and damaged in a receiver's base. */
  readonly damaged: number;
  readonly mended: number;
  readonly badBases: number;
  /** Of messages that the hub sends, and that the client sends: changed in one way or another. */
  readonly hubLies: number;
  readonly clientLies: number;
  /** Of transfers: whose chunks the thread of their channel places, where it may; and that are given up by whoever wants them. */
  readonly aside: number;
  readonly cancelled: number;
  /** Milliseconds that it takes to place a message that no thread did. */
  readonly placeMs: number;
  /** Milliseconds that the thread keeps to itself what it has placed, and that it and the core wait for each other. */
  readonly toldMs: number;
  readonly lagMs: number;
  /** Of messages that the thread could place: that it fails to write. */
  readonly unwritten: number;
  /** Of messages that brought something: after which their transfer is begun again by its receiver. */
  readonly restarts: number;
}

export const QUIET: Trouble = {
  drops: 0,
  delayMs: 5,
  breaksMs: Number.POSITIVE_INFINITY,
  crashesMs: Number.POSITIVE_INFINITY,
  damaged: 0,
  mended: 1,
  badBases: 0,
  hubLies: 0,
  clientLies: 0,
  aside: 0,
  cancelled: 0,
  placeMs: 8,
  toldMs: 20,
  lagMs: 0,
  unwritten: 0,
  restarts: 0,
};
