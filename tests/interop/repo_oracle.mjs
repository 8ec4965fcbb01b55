// Follows a repo as npm @atproto/repo and @atproto/sync see it. In: first line {did, key}, then one line per commit:
// {writes: [[action, path, cid | null]], frame: hex of our #commit}. Out: one line per commit, see `follow`.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const require = createRequire(join(process.env.REF_DIR, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { MST, MemoryBlockstore, Repo, readCarWithRoot, verifyDiffCar } = await load("@atproto/repo");
const { parseCommitAuthenticated } = await load("@atproto/sync");
const { decodeAll } = await load("@atproto/lex-cbor");
const { parseCid } = await load("@atproto/lex-data");

const [{ did, key }, ...commits] = readFileSync(0, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const resolver = { did: { resolveAtprotoKey: async () => key } };

// npm's tree remembers the layer of the last key deleted from it. What is added below that layer then hangs under an empty
// node, a tree that nobody who reads the same records arrives at. Read from its block, an empty tree starts at layer 0.
const emptied = async (tree) => ((await tree.getEntries()).length ? tree : MST.create(new MemoryBlockstore()));
const change = async (tree, action, path, cid) =>
  action === "delete"
    ? emptied(await tree.delete(path))
    : action === "create"
      ? tree.add(path, cid)
      : tree.update(path, cid);
const UNDO = { create: "delete", update: "update", delete: "create" };

// What a consumer does with a frame: undo the operations, knowing nothing but its blocks.
const invert = async (blocks, root, ops) => {
  let tree = MST.load(new MemoryBlockstore(blocks), root);
  for (const op of ops.toReversed()) tree = await change(tree, UNDO[op.action], op.path, op.prev);
  return (await tree.getPointer()).toString();
};

let tree = await MST.create(new MemoryBlockstore());
let repo = null;

const follow = async ({ writes, frame }) => {
  for (const [action, path, cid] of writes) tree = await change(tree, action, path, cid && parseCid(cid));
  const [header, body] = [...decodeAll(Buffer.from(frame, "hex"))];
  const { root, blocks } = await readCarWithRoot(body.blocks);
  const { data } = await Repo.load(new MemoryBlockstore(blocks), root);

  const covering = new Set([(await tree.getPointer()).toString()]);
  for (const op of body.ops)
    for (const { cid } of (await tree.getCoveringProof(op.path)).entries()) covering.add(cid.toString());

  const diff = await verifyDiffCar(repo, body.blocks, did, key);
  const storage = repo ? repo.storage : new MemoryBlockstore();
  await storage.applyCommit(diff.commit);
  repo = await Repo.load(storage, root);

  const event = { $type: "com.atproto.sync.subscribeRepos#commit", ...body };
  const announced = await parseCommitAuthenticated(resolver, event);
  return {
    header,
    fields: Object.keys(body),
    root: (await tree.getPointer()).toString(), // of the tree that npm built from the writes
    data: (await data.getPointer()).toString(), // of the tree that our commit names
    covering: [...covering].sort(),
    diff: diff.writes.map((op) => [op.action, `${op.collection}/${op.rkey}`, op.cid?.toString(), op.prev?.toString()]),
    announced: announced.map((op) => [op.event, `${op.collection}/${op.rkey}`, op.cid?.toString()]),
    prevData: body.prevData?.toString(),
    inverted: await invert(blocks, await data.getPointer(), body.ops),
  };
};

for (const commit of commits) {
  let answer;
  try {
    answer = await follow(commit);
  } catch (problem) {
    answer = { error: String(problem?.stack ?? problem) };
  }
  console.log(JSON.stringify(answer));
}
