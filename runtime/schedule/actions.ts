/**
 * What the scheduler wants done. Executors, programs, batches and lanes are numbers that are never used again for another
 * one, so an answer that comes late can be told from one that is awaited.
 */
export type Action =
  /** Load the program's manifest on the executor; then `laneReady` or `laneLost`. */
  | {
      readonly kind: "load";
      readonly lane: number;
      readonly executor: number;
      readonly program: number;
    }
  /** Send these tasks' packets to the lane in one frame. Indexes within the batch, ascending unless they were stolen. */
  | { readonly kind: "send"; readonly lane: number; readonly batch: number; readonly tasks: Uint32Array }
  /** Close the lane, or stop loading it: nothing that it still says is listened to. */
  | { readonly kind: "close"; readonly lane: number }
  /** The task is given up: the executors it was placed on were lost, TASK_LOSSES_MAX of them. */
  | { readonly kind: "lost"; readonly batch: number; readonly task: number }
  /** Every task of the batch is answered or given up. */
  | { readonly kind: "done"; readonly batch: number }
  /** Nothing can run the batch. */
  | { readonly kind: "stuck"; readonly batch: number; readonly reason: StuckReason }
  /** The executor gets no more packets of that kind of program, for what most of its strikes were for. */
  | {
      readonly kind: "barred";
      readonly executor: number;
      readonly programKind: string;
      readonly reason: StrikeReason;
    };

/** No executor came in time; none could load the program; several, or all there are, say that the program is at fault. */
export type StuckReason = "no executor" | "not loadable" | "refused";

/** How a lane ended, as far as it says something of its executor. */
export const LaneEnd = {
  /** It was lost with its executor, or closed, or did not come because the executor is busy. */
  gone: 0,
  /** The program was not loaded. */
  failed: 1,
  /** The program was not loaded, and is to blame for it as the executor says. */
  refused: 2,
  /** It sent something that is no answer. */
  offended: 3,
  /** A result that it gave is nowhere. */
  resultless: 4,
  /** It was lost, with what was in flight, though its executor is there. */
  broken: 5,
} as const;
export type LaneEnd = (typeof LaneEnd)[keyof typeof LaneEnd];

/** What an executor said of a task. */
export const Outcome = {
  /** A result, or a failure that is the program's own: it would fail everywhere. */
  final: 0,
  /** A failure that another executor may not have: it has a defect. */
  elsewhere: 1,
  /** The same, for want of the packet's input: the executor is not to blame as long as no other one has it. */
  inputMissing: 2,
  /** The executor says of itself that it cannot run it: others may, and that is no strike. */
  incapable: 3,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** What the scheduler makes of an answer. */
export const Decision = {
  /** The task's one answer. */
  accepted: 0,
  /** Somebody else answered before, or the task is not placed there any more. */
  ignored: 1,
  /** The task is placed again. */
  again: 2,
} as const;
export type Decision = (typeof Decision)[keyof typeof Decision];

/** What a strike is for. */
export const StrikeReason = {
  /** It did not load a program that another one loaded. */
  load: "load",
  /** It failed a packet, and not by the program's fault, that another one answered. */
  fault: "fault",
  /** It did not get the input of a packet that another one, which had to fetch it too, answered. */
  input: "input",
  /** It gave results that neither it nor anybody else has. */
  result: "result",
  /** It sent something that is no answer. */
  answer: "answer",
} as const;
export type StrikeReason = (typeof StrikeReason)[keyof typeof StrikeReason];
