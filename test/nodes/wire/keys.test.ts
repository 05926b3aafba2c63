import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { curveKeyPair } from "zeromq";
import { loadIdentity } from "../../../nodes/wire/trust/identity-file.ts";
import { Identity, curvePublicKey, isSignedBy, peerId, z85Encode } from "../../../nodes/wire/trust/keys.ts";

const Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

function z85Decode(text: string): Uint8Array {
  const bytes = Buffer.alloc((text.length / 5) * 4);
  for (let at = 0; at < text.length; at += 5) {
    let value = 0;
    for (let index = at; index < at + 5; index++) value = value * 85 + Z85.indexOf(text[index]!);
    bytes.writeUInt32BE(value, (at / 5) * 4);
  }
  return bytes;
}

test("CURVE keys are ZeroMQ's own", () => {
  for (let round = 0; round < 20; round++) {
    const { publicKey, secretKey } = curveKeyPair();
    const secret = z85Decode(secretKey);
    expect(z85Encode(secret)).toBe(secretKey);
    expect(z85Encode(curvePublicKey(secret))).toBe(publicKey);
  }
  expect(() => z85Encode(new Uint8Array(3))).toThrow("multiples");
});

test("one secret is one identity, in every process and for ever", () => {
  const identity = Identity.fromSecret(new Uint8Array(32).fill(7));
  // Stored allow lists and tokens hold these; whoever changes the derivation locks everybody out.
  expect(identity.id).toBe("c224a7ca8bd3d7f7b649eb1f8d1734e1");
  expect(Buffer.from(identity.curveKey).toString("hex")).toBe(
    "609124705a66f6325a54d33d13a1dbc7dcc226a5698bc438c0233e726ab29526",
  );
  expect(identity.id).toBe(peerId(identity.signingKey));
  expect(Identity.fromSecret(identity.exportSecret()).id).toBe(identity.id);
  expect(Identity.create().id).not.toBe(Identity.create().id);
  expect(() => Identity.fromSecret(new Uint8Array(31))).toThrow("32 bytes");
});

test("a secret is not shown by what logs do", () => {
  const identity = Identity.fromSecret(new Uint8Array(32).fill(0xab));
  expect(JSON.stringify(identity)).not.toMatch(/171|abab/);
  expect(Object.keys(identity).toSorted()).toEqual(["curveKey", "id", "signingKey"]);
});

test("a signature is of one key over one text, and nothing a peer sends makes checking throw", () => {
  const [identity, other] = [Identity.create(), Identity.create()];
  const text = Buffer.from("a text");
  const signature = identity.sign(text);
  expect(isSignedBy(identity.signingKey, text, signature)).toBe(true);
  expect(isSignedBy(other.signingKey, text, signature)).toBe(false);
  expect(isSignedBy(identity.signingKey, Buffer.from("a tex"), signature)).toBe(false);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), fc.uint8Array({ maxLength: 70 }), (key, made) => {
      expect(isSignedBy(key, text, made)).toBe(false);
    }),
  );
  const zeros = new Uint8Array(32);
  expect(isSignedBy(zeros, text, new Uint8Array(64))).toBe(false);
});

describe("an identity file", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "pfs-keys-"));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
  });

  test("is made once, private, and read ever after", async () => {
    const file = join(directory, "identity");
    const made = await Promise.all(Array.from({ length: 8 }, () => loadIdentity(file)));
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect((await loadIdentity(file)).id).toBe(made[0]!.id);
    if (process.platform !== "win32") expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("that is damaged or that others can read is refused", async () => {
    const file = join(directory, "damaged");
    await loadIdentity(file);
    const text = await readFile(file, "utf8");
    const invalid = { code: "PFS_IDENTITY_INVALID", data: { file } };
    for (const damaged of [
      text.slice(0, 30),
      text.replace(/.\n$/, "\n"),
      "",
      "pfs1.client.abc",
      `${text}x`,
    ]) {
      await writeFile(file, damaged);
      await expect(loadIdentity(file)).rejects.toMatchObject(invalid);
    }
    await writeFile(file, text);
    await loadIdentity(file);
    if (process.platform === "win32") return;
    await chmod(file, 0o644);
    await expect(loadIdentity(file)).rejects.toMatchObject(invalid);
  });
});
