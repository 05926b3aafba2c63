/** What an end of a channel granted, and what came for it, counted beside the cores by what can be seen of them. */
import { TransferKind, costOf } from "../../nodes/transfer/replication/messages.ts";
import type { FileData, TransferMessage } from "../../nodes/transfer/replication/messages.ts";
import { assert } from "./assert.ts";

interface Flow {
  /** What may be on its way, or wait to be placed, at most. */
  readonly window: () => number;
  run: number;
  granted: number;
  came: number;
  /** Of what came, what is not placed. */
  waiting: number;
}

export class CreditLedger {
  /** By the numbers of the transfers that this end receives. */
  readonly #flows = new Map<number, Flow>();

  receives(transfer: number, window: () => number): void {
    this.#flows.set(transfer, { window, run: 0, granted: 0, came: 0, waiting: 0 });
  }

  /** The end sends this. */
  says(message: TransferMessage): void {
    if (message.kind === TransferKind.FILE_REQUEST) {
      const { transfer, run, credit } = message;
      const flow = this.#flows.get(transfer)!;
      assert(run > flow.run, "a run is asked for again");
      assert(credit <= flow.window(), "more is asked for than the window");
      Object.assign(flow, { run, granted: credit, came: 0, waiting: 0 });
    }
    if (message.kind === TransferKind.FILE_CREDIT) {
      const { transfer, run, granted } = message;
      const flow = this.#flows.get(transfer)!;
      assert(run === flow.run, "credit of another run than was asked for");
      assert(granted > flow.granted, "credit that is none");
      assert(granted <= flow.came - flow.waiting + flow.window(), "credit above the window");
      flow.granted = granted;
    }
  }

  /** This came, from a peer that keeps to the rules or not. Returns what to call when it is placed. */
  came({ transfer, run, packets }: FileData, bodyBytes: number, isHonest: boolean): () => void {
    const flow = this.#flows.get(transfer);
    if (flow === undefined || flow.run !== run) return () => {};
    const cost = costOf(packets.byteLength, bodyBytes);
    flow.came += cost;
    flow.waiting += cost;
    assert(!isHonest || flow.came <= flow.granted, "more comes than was granted");
    return () => {
      if (flow.run === run) flow.waiting -= cost;
    };
  }
}
