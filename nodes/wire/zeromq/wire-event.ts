/** What a port has to tell its owner beside its links: for the log and for counters. */
export type WireEvent =
  /** A key that the roster does not have tried to connect; `refusals` is how many did since the last report. */
  | {
      readonly kind: "stranger";
      readonly curveKey: string;
      readonly address: string;
      readonly refusals: number;
    }
  /** A key of the roster connected, and was refused what it asked for. */
  | { readonly kind: "refused"; readonly id: string; readonly address: string; readonly reason: string }
  /** A signed HELLO came a second time. */
  | { readonly kind: "replayed"; readonly id: string; readonly address: string }
  /** A machine joined with an invite. */
  | { readonly kind: "joined"; readonly id: string; readonly label: string; readonly address: string }
  /** A peer broke the rules and its session was ended. */
  | { readonly kind: "offence"; readonly id: string; readonly address: string; readonly reason: string }
  /** A peer attacked the port itself: it is kept out for a while, and all other peers have to connect again. */
  | { readonly kind: "attacked"; readonly id: string; readonly address: string; readonly reason: string };
