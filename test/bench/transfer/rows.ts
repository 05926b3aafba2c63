/** The rows: what is moved, over which link, what both ends have of it already, and what is to come out. */
import type { AnchorName } from "./anchors.ts";
import type { LinkShape } from "./relay.ts";
import type { Workload, WorkloadName } from "./workloads.ts";

export interface Figures {
  /** On the wire, both ways; of a row with a kill both runs together. */
  readonly bytes: number;
  /** Of a row with a kill: when nobody is killed. */
  readonly wholeBytes?: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly clientPeak: number;
  readonly serverPeak: number;
}

type Version = keyof Pick<Workload, "before" | "after">;

export interface Goal {
  readonly says: string;
  /** Undefined where there is no rival to compare with. */
  readonly figure: (own: Figures, rival: Figures | undefined) => number | undefined;
  readonly most: number;
}

export interface Row {
  readonly name: string;
  readonly work: WorkloadName;
  /** As fast as this machine, where there is none. */
  readonly link?: LinkShape;
  readonly isPut?: boolean;
  readonly isClear?: boolean;
  readonly serverHas: readonly Version[];
  /** At the place where it comes to; of a put: stored before. */
  readonly clientHas?: Version;
  /** The client fetched from there what it has: it knows it. */
  readonly isKnown?: boolean;
  /** The client is killed half-way, by what a whole run takes on the wire; then it runs again. */
  readonly isKilled?: boolean;
  readonly rival?: "plain" | "compressed" | "resuming";
  /** Measured beside, where they are installed. */
  readonly anchors?: readonly AnchorName[];
  readonly goals: readonly Goal[];
}

const WAN: LinkShape = { delayMs: 10, bitsPerSecond: 100e6 };

const megabytes = (most: number): Goal => ({
  says: "MB on the wire",
  figure: ({ bytes }) => bytes / 1e6,
  most,
});
const seconds = (most: number): Goal => ({ says: "s", figure: (own) => own.seconds, most });
const cpu = (most: number): Goal => ({ says: "CPU s, both ends", figure: (own) => own.cpuSeconds, most });
const memory: Goal = {
  says: "MB of memory, the larger side",
  figure: ({ clientPeak, serverPeak }) => Math.max(clientPeak, serverPeak) / 1e6,
  most: 150,
};
const times = (most: number): Goal => ({
  says: "× the rival's time",
  figure: (own, rival) => rival && own.seconds / rival.seconds,
  most,
});
const more: Goal = {
  says: "% more bytes than at once",
  figure: ({ bytes, wholeBytes }) => (bytes / wholeBytes! - 1) * 100,
  most: 0.3,
};
const bytesTimes = (most: number): Goal => ({
  says: "× the rival's bytes",
  figure: (own, rival) => rival && own.bytes / rival.bytes,
  most,
});

/** Pairs of versions of which half of a compressed rsync's bytes are the goal. */
const updated = (name: string, work: Row["work"]): Row => ({
  name,
  work,
  serverHas: ["before", "after"],
  clientHas: "before",
  rival: "compressed",
  anchors: ["zsync", "casync"],
  goals: [bytesTimes(0.5)],
});
const putAgain = (name: string, work: Row["work"]): Row => ({
  name,
  work,
  isPut: true,
  serverHas: [],
  clientHas: "before",
  rival: "compressed",
  anchors: ["borg", "restic"],
  goals: [bytesTimes(0.5)],
});

export const ROWS: readonly Row[] = [
  {
    name: "get 1 GiB",
    work: "random",
    serverHas: ["after"],
    rival: "plain",
    goals: [times(1.5), cpu(3.2), memory],
  },
  {
    name: "get 1 GiB, in the clear",
    work: "random",
    isClear: true,
    serverHas: ["after"],
    rival: "plain",
    goals: [times(1), cpu(2.3), memory],
  },
  {
    name: "put 1 GiB",
    work: "random",
    isPut: true,
    serverHas: [],
    rival: "plain",
    goals: [times(1.5), memory],
  },
  {
    name: "get a program, 100 Mbit/s, 20 ms",
    work: "program",
    link: WAN,
    serverHas: ["after"],
    rival: "compressed",
    goals: [megabytes(42), seconds(3.7)],
  },
  {
    name: "update a program, 100 Mbit/s, 20 ms",
    work: "program",
    link: WAN,
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    goals: [megabytes(10), seconds(2.5), bytesTimes(0.5)],
  },
  {
    name: "put the update of a program, 100 Mbit/s, 20 ms",
    work: "program",
    link: WAN,
    isPut: true,
    serverHas: [],
    clientHas: "before",
    rival: "compressed",
    anchors: ["borg", "restic"],
    goals: [megabytes(10), seconds(2.5), bytesTimes(0.5)],
  },
  {
    name: "update a tar file",
    work: "archive",
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    goals: [megabytes(0.1), times(1)],
  },
  {
    name: "update 1 GiB with 2,621 edits",
    work: "random",
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    anchors: ["zsync", "casync"],
    goals: [megabytes(11.5), seconds(2.5)],
  },
  {
    name: "update 256 MiB with 256 inserts",
    work: "inserts",
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    anchors: ["zsync", "casync"],
    goals: [megabytes(0.15)],
  },
  updated("update another program", "compiled"),
  updated("update a database", "database"),
  putAgain("put a database that was changed", "database"),
  updated("update a log that grew", "log"),
  putAgain("put a log that grew", "log"),
  {
    name: "update photos, some added, renamed and removed",
    work: "photos",
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    goals: [bytesTimes(0.5)],
  },
  {
    name: "get 1 GiB that is there",
    work: "random",
    serverHas: ["after"],
    clientHas: "after",
    rival: "plain",
    goals: [megabytes(0.005)],
  },
  {
    name: "get 8,711 files",
    work: "tree",
    serverHas: ["after"],
    rival: "compressed",
    goals: [megabytes(38), times(1)],
  },
  {
    name: "get 8,711 files that are there",
    work: "tree",
    serverHas: ["after"],
    clientHas: "after",
    rival: "compressed",
    goals: [megabytes(0.006), times(1)],
  },
  {
    name: "update 8,711 files",
    work: "tree",
    serverHas: ["before", "after"],
    clientHas: "before",
    rival: "compressed",
    goals: [megabytes(0.1), times(1)],
  },
  {
    name: "get 8,711 files that were fetched before",
    work: "tree",
    serverHas: ["after"],
    clientHas: "after",
    isKnown: true,
    rival: "compressed",
    goals: [megabytes(0.006), times(1)],
  },
  {
    name: "update 8,711 files that were fetched before",
    work: "tree",
    serverHas: ["before"],
    clientHas: "before",
    isKnown: true,
    rival: "compressed",
    goals: [megabytes(0.1), times(1)],
  },
  {
    name: "put 8,711 files",
    work: "tree",
    isPut: true,
    serverHas: [],
    rival: "compressed",
    goals: [megabytes(38), times(1)],
  },
  {
    name: "put 8,711 files that are there",
    work: "tree",
    isPut: true,
    serverHas: [],
    clientHas: "after",
    rival: "compressed",
    goals: [megabytes(0.006), times(1)],
  },
  {
    name: "put the update of 8,711 files",
    work: "tree",
    isPut: true,
    serverHas: [],
    clientHas: "before",
    rival: "compressed",
    goals: [megabytes(0.1), times(1)],
  },
  {
    name: "get 1 GiB, killed half-way",
    work: "random",
    serverHas: ["after"],
    isKilled: true,
    rival: "resuming",
    goals: [more],
  },
  {
    name: "put 1 GiB, killed half-way",
    work: "random",
    isPut: true,
    serverHas: [],
    isKilled: true,
    goals: [more],
  },
];
