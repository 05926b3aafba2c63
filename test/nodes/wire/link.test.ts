import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { linkSuite } from "../../suites/link.ts";
import { memoryPair } from "./memory-pair.ts";
import { openNetwork } from "./network.ts";

linkSuite("a link in memory", async () => {
  const { near, far, cut } = memoryPair();
  const close = async (): Promise<void> => void (await Promise.all([near.close(), far.close()]));
  return { near, far, cut, close };
});

linkSuite("a link over sockets, seen from the dialing side", async () => {
  const network = await openNetwork();
  const near = await network.dial();
  const far = await network.accepted(near);
  // Without its port, a server's connections end like those of a killed process.
  return { near, far, cut: () => network.kill(), close: () => network.close() };
});

linkSuite("a link over sockets, seen from the listening side", async () => {
  const network = await openNetwork();
  const far = await network.dial({ identity: Identity.create(), role: "node" });
  const near = await network.accepted(far);
  return { near, far, cut: () => network.kill(), close: () => network.close() };
});
