/** What a hub says of a node that does nothing. */
import type { NodeStatus } from "../../nodes/messages.ts";

const KEY: string = "0".repeat(64);

/** `change` is what it says otherwise. */
export function nodeStatus<Change extends object>(change: Change): NodeStatus & Change {
  return {
    id: "a",
    label: "a",
    role: "node",
    curveKey: KEY,
    signingKey: KEY,
    workers: 1,
    editions: {},
    accelerators: [],
    inFlight: 0,
    done: 0,
    lastSeenMs: 0,
    barred: [],
    ...change,
  };
}
