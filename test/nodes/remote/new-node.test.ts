/** A node that has just joined, and a client that wants to go there before the node knows whom it may let in. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import { Identity, keysToJson } from "../../../nodes/wire/trust/keys.ts";
import { WireServer } from "../../../nodes/wire/zeromq/server.ts";
import { nodeStatus } from "../node-status.ts";
import { scriptedPeer } from "../scripted-peer.ts";

test("a client is not refused for good by a node that does not know it yet", async () => {
  const [node, identity] = [Identity.create(), Identity.create()];
  const allowList = new AllowList();
  await using server = new WireServer({
    identity: node,
    allowList,
    role: "node",
    label: "late",
    onLink: () => {},
  });
  await server.bind("127.0.0.1", 0);
  const status = nodeStatus({ id: node.id, label: "late", address: server.address, ...keysToJson(node) });
  const hub = scriptedPeer({
    [MessageType.MEMBERS]: () => ({
      type: MessageType.OK,
      chunks: Buffer.from(JSON.stringify([status])),
    }),
  });
  const client = new HubClient(hub.link, identity);
  await expect(client.dialNode("late")).rejects.toMatchObject({
    code: "PFS_PEER_UNREACHABLE",
    message: 'node "late" does not know this client yet',
    data: { node: "late" },
  });
  const { signingKey, curveKey } = identity;
  allowList.add({ signingKey, curveKey, role: "client", label: "client" });
  const { link } = await client.dialNode("late");
  expect(link.peer.label).toBe("late");
  await link.close();
  await client.close();
});
