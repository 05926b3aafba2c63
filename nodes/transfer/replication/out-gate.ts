/**
 * Messages of transfers that were made before the receiver has granted what they cost: each is held until it has. Pure. Whoever
 * hears of credit first lets them go, so that nobody has to be woken for what is ready to leave.
 */

/** What a message of a transfer waits for. */
export interface Gate {
  readonly transfer: number;
  readonly run: number;
  /** What the run costs up to this message, with it; 0 for those that cost nothing, and go behind those before them. */
  readonly at: number;
  /** What was granted, as far as its maker knows. */
  readonly granted: number;
}

interface Flow<Message> {
  run: number;
  granted: number;
  held: { readonly at: number; readonly message: Message }[];
}

export interface OutGateOptions<Message> {
  /** It goes now. */
  readonly pass: (message: Message) => void;
  /** Nobody wants it any more. */
  readonly drop: (message: Message) => void;
}

export class OutGate<Message> {
  readonly #options: OutGateOptions<Message>;
  readonly #flows = new Map<number, Flow<Message>>();

  constructor(options: OutGateOptions<Message>) {
    this.#options = options;
  }

  /** Passes the message on, now or later. Those of a transfer keep their order; a new run takes the place of the one before. */
  send({ transfer, run, at, granted }: Gate, message: Message): void {
    let flow = this.#flows.get(transfer);
    if (flow === undefined) {
      flow = { run, granted, held: [] };
      this.#flows.set(transfer, flow);
    } else if (run > flow.run) {
      this.#drop(flow);
      [flow.run, flow.granted] = [run, granted];
    } else if (run < flow.run) return this.#options.drop(message);
    flow.granted = Math.max(flow.granted, granted);
    flow.held.push({ at, message });
    this.#release(flow);
  }

  /** The receiver has granted more. */
  granted(transfer: number, run: number, granted: number): void {
    const flow = this.#flows.get(transfer);
    if (flow?.run !== run) return;
    flow.granted = Math.max(flow.granted, granted);
    this.#release(flow);
  }

  /** The transfer is over: what is held of it is dropped. */
  over(transfer: number): void {
    const flow = this.#flows.get(transfer);
    this.#flows.delete(transfer);
    if (flow !== undefined) this.#drop(flow);
  }

  #release(flow: Flow<Message>): void {
    while (flow.held.length > 0 && flow.held[0]!.at <= flow.granted)
      this.#options.pass(flow.held.shift()!.message);
  }

  #drop(flow: Flow<Message>): void {
    for (const { message } of flow.held.splice(0)) this.#options.drop(message);
  }
}
