/** How much the rows work on. */

export interface Sizes {
  /** Of the file that is stored and fetched. */
  readonly randomBytes: number;
  /** Of the text whose words are counted. */
  readonly textBytes: number;
  /** Of the texts of the curve, in megabytes, and how many workers count their words. */
  readonly growthMegabytes: readonly number[];
  readonly growthWorkers: readonly number[];
  /** Of the text whose words are counted by nodes, and by one plain thread. */
  readonly raceBytes: number;
  /** Rows of the picture that they compute. */
  readonly raceRows: number;
  /** That are counted by key; more where there are more keys. */
  readonly records: number;
  readonly keys: readonly number[];
  /** Of EXEC packets, for each figure of a rate. */
  readonly frames: number;
  /** Of 64 bytes, of the jobs of a curve. */
  readonly splits: readonly number[];
  /** In one stream. */
  readonly streamPackets: number;
  /** Of one machine, each with a packet. */
  readonly lanes: number;
  /** Packets sent alone, for each median of how long one takes. */
  readonly pings: number;
  /** Commands of which each figure is the mean. */
  readonly commands: number;
  /** Small ones, one after the other. */
  readonly jobs: number;
  readonly rounds: number;
  /** Of the row about starts, whose figures are the least steady. */
  readonly startRoundsLeast: number;
}

/** What the published figures are about. */
export const FULL: Sizes = {
  randomBytes: 1024 ** 3,
  textBytes: 512 * 1024 ** 2,
  growthMegabytes: [1, 10, 100, 1000],
  growthWorkers: [1, 2, 4],
  raceBytes: 67_000_000,
  raceRows: 900,
  records: 4_000_000,
  keys: [1, 1000, 100_000, 1_000_000, 10_000_000],
  frames: 400,
  splits: [1000, 10_000, 100_000, 1_000_000],
  streamPackets: 10_000_000,
  lanes: 65_535,
  pings: 500,
  commands: 10,
  jobs: 60,
  rounds: 3,
  startRoundsLeast: 5,
};

export const EIGHTH: Sizes = {
  ...FULL,
  randomBytes: FULL.randomBytes / 8,
  textBytes: FULL.textBytes / 8,
  growthMegabytes: [1, 10, 100],
  records: FULL.records / 8,
  splits: [1000, 10_000, 100_000],
  streamPackets: FULL.streamPackets / 8,
  keys: [1, 1000, 100_000, 1_000_000],
};

/** Enough to see every row work. */
export const SMALLEST: Sizes = {
  randomBytes: 4 * 1024 ** 2,
  textBytes: 1024 ** 2,
  growthMegabytes: [1],
  growthWorkers: [2],
  raceBytes: 1_000_000,
  raceRows: 60,
  records: 20_000,
  keys: [1, 100_000],
  frames: 4,
  splits: [1000],
  streamPackets: 5000,
  lanes: 500,
  pings: 3,
  commands: 1,
  jobs: 2,
  rounds: 1,
  startRoundsLeast: 1,
};
