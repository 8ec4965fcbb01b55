// Clients that nobody here wrote, against a running box. usage: node clients.mjs CASE, with URL, DID, HANDLE, PASSWORD,
// PLC_URL, KEY (the box's signing key, hex), REF_DIR and SEED in the environment. Exit status 0, or the reason on stderr.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const { URL: url, DID: did, HANDLE, PASSWORD, PLC_URL, KEY, REF_DIR, SEED } = process.env
const load = (name, from = REF_DIR) =>
  import(pathToFileURL(createRequire(join(from, 'package.json')).resolve(name)).href)
// Packages of ES modules only: createRequire cannot resolve them, their place is known.
const loadModule = (name) => import(pathToFileURL(join(REF_DIR, 'node_modules', name, 'dist/index.js')).href)

const { AtpAgent, RichText } = await load('@atproto/api')
const crypto = await load('@atproto/crypto')
const repo = await loadModule('@atproto/repo')
const { CID } = await load('multiformats/cid')

const keypair = await crypto.Secp256k1Keypair.import(Buffer.from(KEY, 'hex'), { exportable: true })
const P = 'app.bsky.feed.post'
const X = 'com.example.thing'
const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
const now = () => new Date().toISOString()
const rkeyOf = (uri) => uri.split('/').pop()
const refused = async (call, name) => {
  await assert.rejects(call, (problem) => {
    assert.equal(problem.error, name, problem.message)
    return true
  })
}

async function signIn(options = {}) {
  const agent = new AtpAgent({ service: url, ...options })
  await agent.login({ identifier: HANDLE, password: PASSWORD })
  assert.equal(agent.did, did)
  return agent
}

// What both implementations read in an export; fails unless they agree and the signature holds.
async function readRepo(car) {
  const verified = await repo.verifyRepoCar(car, did, keypair.did())
  const entries = new Map(verified.creates.map((c) => [`${c.collection}/${c.rkey}`, c.cid.toString()]))
  const { fromUint8Array } = await loadModule('@atcute/repo')
  const second = new Map()
  for (const entry of fromUint8Array(car)) second.set(`${entry.collection}/${entry.rkey}`, entry.cid.$link)
  assert.deepEqual(second, entries, '@atcute/repo reads what @atproto/repo reads')
  const { root, blocks } = await repo.readCarWithRoot(car)
  const { commit } = await repo.Repo.load(new repo.MemoryBlockstore(blocks), root)
  return { commit, entries }
}

const exportRepo = async (agent, params = {}) => (await agent.com.atproto.sync.getRepo({ did, ...params })).data

const cases = {
  async session() {
    const kept = []
    const agent = await signIn({ persistSession: (event, session) => kept.push([event, session]) })
    const session = (await agent.com.atproto.server.getSession()).data
    assert.deepEqual([session.did, session.handle, session.active], [did, HANDLE, true])
    const described = (await agent.com.atproto.server.describeServer()).data
    assert.ok(described.did.startsWith('did:web:'))
    const again = new AtpAgent({ service: url })
    await again.resumeSession(kept.at(-1)[1])
    await again.sessionManager.refreshSession()
    assert.equal((await again.com.atproto.server.getSession()).data.did, did)
    assert.equal((await agent.resolveHandle({ handle: HANDLE })).data.did, did)

    const made = (await agent.com.atproto.server.createAppPassword({ name: 'phone' })).data
    const phone = new AtpAgent({ service: url })
    await phone.login({ identifier: did, password: made.password })
    await phone.post({ text: 'from the phone' })
    const listed = (await agent.com.atproto.server.listAppPasswords()).data.passwords
    assert.deepEqual(listed.map((each) => each.name), ['phone'])
    await agent.com.atproto.server.revokeAppPassword({ name: 'phone' })
    await assert.rejects(new AtpAgent({ service: url }).login({ identifier: did, password: made.password }))

    const aud = 'did:web:example.com'
    const lxm = 'com.example.method'
    const { token } = (await agent.com.atproto.server.getServiceAuth({ aud, lxm })).data
    const { verifyJwt } = await loadModule('@atproto/xrpc-server')
    const { IdResolver } = await load('@atproto/identity')
    const ids = new IdResolver({ plcUrl: PLC_URL, fetch }) // its own fetch refuses plain http
    const claims = await verifyJwt(token, aud, lxm, (issuer) => ids.did.resolveAtprotoKey(issuer))
    assert.equal(claims.iss, did)

    const status = (await agent.com.atproto.server.checkAccountStatus()).data
    assert.deepEqual([status.activated, status.validDid], [true, true])
    await agent.logout()
    await assert.rejects(agent.com.atproto.server.getSession())
  },

  async records() {
    const agent = await signIn()
    const rt = new RichText({ text: 'see https://example.com, and an emoji 👩‍👩‍👧' })
    rt.detectFacetsWithoutResolution()
    const post = await agent.post({ text: rt.text, facets: rt.facets, langs: ['en'] })
    assert.equal((await agent.getPost({ repo: did, rkey: rkeyOf(post.uri) })).value.text, rt.text)
    const like = await agent.like(post.uri, post.cid)
    assert.ok((await agent.repost(post.uri, post.cid)).uri.includes('app.bsky.feed.repost'))
    await agent.deleteLike(like.uri)
    await agent.upsertProfile((old) => ({ ...old, displayName: 'Alice' }))
    await agent.upsertProfile((old) => ({ ...old, description: `still ${old.displayName}` }))
    const profile = await agent.com.atproto.repo.getRecord({
      repo: HANDLE, collection: 'app.bsky.actor.profile', rkey: 'self',
    })
    assert.equal(profile.data.value.description, 'still Alice')

    const R = Object.fromEntries(
      ['createRecord', 'putRecord', 'deleteRecord', 'getRecord', 'applyWrites', 'listRecords', 'describeRepo']
        .map((name) => [name, (input) => agent.com.atproto.repo[name]({ repo: did, ...input })]),
    )
    const odd = { $type: X, link: { $link: post.cid }, bytes: { $bytes: 'AAH/' }, n: -(2 ** 53 - 1), nil: null, ü: ['ß'] }
    const made = (await R.createRecord({ collection: X, rkey: 'odd', record: odd })).data
    const back = (await R.getRecord({ collection: X, rkey: 'odd' })).data
    assert.equal(back.cid, made.cid)
    assert.equal((await repo.cidForRecord(await lexOf(odd))).toString(), made.cid, 'npm gives the record the same CID')
    assert.equal(JSON.stringify((await rawRecord(X, 'odd')).link), JSON.stringify(odd.link))
    const put = (await R.putRecord({ collection: X, rkey: 'odd', record: { n: 1 }, swapRecord: made.cid })).data
    assert.equal(put.validationStatus, 'unknown')
    await refused(R.putRecord({ collection: X, rkey: 'odd', record: { n: 2 }, swapRecord: made.cid }), 'InvalidSwap')
    await refused(R.deleteRecord({ collection: X, rkey: 'odd', swapCommit: made.commit.cid }), 'InvalidSwap')

    const batch = (await R.applyWrites({
      writes: [
        ...Array.from({ length: 25 }, (_, n) => ({
          $type: 'com.atproto.repo.applyWrites#create', collection: X, rkey: `b${String(n).padStart(2, '0')}`, value: { n },
        })),
        { $type: 'com.atproto.repo.applyWrites#update', collection: X, rkey: 'odd', value: { n: 3 } },
        { $type: 'com.atproto.repo.applyWrites#delete', collection: P, rkey: rkeyOf(post.uri) },
      ],
    })).data
    assert.equal(batch.results.length, 27)
    assert.equal(batch.results.at(-1).$type, 'com.atproto.repo.applyWrites#deleteResult')
    const seen = []
    let cursor
    do {
      const page = (await R.listRecords({ collection: X, limit: 10, cursor, reverse: true })).data
      seen.push(...page.records.map((each) => rkeyOf(each.uri)))
      cursor = page.cursor
    } while (cursor)
    assert.deepEqual(seen, [...Array.from({ length: 25 }, (_, n) => `b${String(n).padStart(2, '0')}`), 'odd'])
    const described = (await R.describeRepo({})).data
    assert.ok(described.handleIsCorrect && described.collections.includes(X))
    assert.equal(described.didDoc.id, did)
    await refused(R.getRecord({ collection: P, rkey: rkeyOf(post.uri) }), 'RecordNotFound')
    await R.deleteRecord({ collection: X, rkey: 'odd' })
    assert.equal((await R.deleteRecord({ collection: X, rkey: 'odd' })).data.commit, undefined)
    const { entries, commit } = await readRepo(await exportRepo(agent))
    assert.equal(entries.size, 25 + 2, 'the batch, the repost, the profile')
    const latest = (await agent.com.atproto.sync.getLatestCommit({ did })).data
    assert.equal(latest.rev, commit.rev)
    const listed = (await agent.com.atproto.sync.listRepos()).data.repos
    assert.deepEqual([listed[0].did, listed[0].head, listed[0].rev], [did, latest.cid, latest.rev])
    assert.equal((await agent.com.atproto.sync.getRepoStatus({ did })).data.rev, latest.rev)
  },

  async blobs() {
    const agent = await signIn()
    const png = Buffer.from('89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de', 'hex')
    const { blob } = (await agent.uploadBlob(png, { encoding: 'image/png' })).data
    assert.deepEqual([blob.mimeType, blob.size], ['image/png', png.length])
    await agent.post({
      text: 'a picture',
      embed: { $type: 'app.bsky.embed.images', images: [{ alt: 'a pixel', image: blob }] },
    })
    const cid = blob.ref.toString()
    const got = await agent.com.atproto.sync.getBlob({ did, cid })
    assert.deepEqual(Buffer.from(got.data), png)
    assert.deepEqual((await agent.com.atproto.sync.listBlobs({ did })).data.cids, [cid])
    const large = Buffer.alloc(5_000_000, 7)
    const second = (await agent.uploadBlob(large, { encoding: 'application/octet-stream' })).data.blob
    await agent.com.atproto.repo.createRecord({ repo: did, collection: X, record: { $type: X, file: second } })
    const back = await agent.com.atproto.sync.getBlob({ did, cid: second.ref.toString() })
    assert.equal(Buffer.compare(Buffer.from(back.data), large), 0)
  },

  // A repository made by npm moves in, twice, and then only what changed in it.
  async importing() {
    const agent = await signIn()
    const missing = { $type: 'blob', ref: CID.parse('bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy'), mimeType: 'image/png', size: 9 }
    const create = (n) => ({
      action: repo.WriteOpAction.Create, collection: X, rkey: `moved-${n}`, record: { $type: X, n, ...(n === 7 ? { missing } : {}) },
    })
    const storage = new repo.MemoryBlockstore()
    let theirs = await repo.Repo.create(storage, did, keypair, Array.from({ length: 700 }, (_, n) => create(n)))
    const bring = async (car) => agent.com.atproto.repo.importRepo(car, { encoding: 'application/vnd.ipld.car' })
    const whole = await repo.concatBytesAsync(repo.getFullRepo(storage, theirs.cid))
    for (let time = 0; time < 2; time++) {
      await agent.com.atproto.server.deactivateAccount({})
      await bring(whole)
      const status = (await agent.com.atproto.server.checkAccountStatus()).data
      assert.equal(status.indexedRecords, 700)
      assert.deepEqual([status.expectedBlobs, status.importedBlobs], [1, 0])
      await agent.com.atproto.server.activateAccount()
      const { entries } = await readRepo(await exportRepo(agent))
      assert.equal(entries.size, 700)
      assert.deepEqual((await agent.com.atproto.repo.listMissingBlobs()).data.blobs, [
        { cid: missing.ref.toString(), recordUri: `at://${did}/${X}/moved-7` },
      ])
    }
    assert.equal((await agent.com.atproto.repo.getRecord({ repo: did, collection: X, rkey: 'moved-5' })).data.value.n, 5)
    // Writes go on in the moved repository.
    await agent.com.atproto.repo.createRecord({ repo: did, collection: X, rkey: 'after', record: { $type: X } })
    assert.equal((await readRepo(await exportRepo(agent))).entries.size, 701)
    for (const broken of [whole.subarray(0, -9), whole.subarray(0, 4000), Buffer.from('nothing')]) {
      await refused(bring(broken), 'InvalidRequest')
    }
    assert.equal((await readRepo(await exportRepo(agent))).entries.size, 701)
  },

  // Thousands of random writes; on the way trees, commits, exports and diffs of npm's own making are compared with ours.
  async random() {
    const agent = await signIn()
    const { MST, MemoryBlockstore, BlockMap } = repo
    const mst = await loadModule('@atcute/mst')
    let state = Number(SEED) % 2147483647 || 1
    const random = (n) => (state = (state * 48271) % 2147483647) % n
    const collections = ['com.example.a', 'com.example.a.b', 'app.bsky.feed.like', 'z.y.x']
    const model = new Map()
    const path = () => `${collections[random(4)]}/${random(3) ? 'k' : '3k'}${random(700).toString(36)}${'-'.repeat(random(3))}`
    let last = null
    let writes = 0
    for (let round = 0; round < 90; round++) {
      const batch = new Map()
      const size = [1, 1, 3, 20, 60, 200][random(6)]
      const shrinking = round % 30 > 22
      for (let n = 0; n < size; n++) {
        const known = [...model.keys()]
        const key = known.length && random(10) < (shrinking ? 9 : 3) ? known[random(known.length)] : path()
        if (batch.has(key)) continue
        const [collection, rkey] = key.split('/')
        const value = { $type: collection, v: random(1e6), t: 'x'.repeat(random(200)) }
        const gone = model.has(key) && (shrinking || random(2))
        const kind = gone ? 'delete' : model.has(key) ? 'update' : 'create'
        batch.set(key, { $type: `com.atproto.repo.applyWrites#${kind}`, collection, rkey, ...(gone ? {} : { value }) })
      }
      writes += batch.size
      const input = { repo: did, validate: false, writes: [...batch.values()] }
      const answer = (await agent.com.atproto.repo.applyWrites(input)).data
      for (const [key, write] of batch) {
        if (write.value) model.set(key, (await repo.cidForRecord(write.value)).toString())
        else model.delete(key)
      }
      if (round % 9 !== 8) continue
      const car = await exportRepo(agent)
      const { entries, commit } = await readRepo(car)
      assert.deepEqual(entries, new Map([...model].sort(([a], [b]) => (a < b ? -1 : 1))))
      let tree = await MST.create(new MemoryBlockstore())
      for (const [key, cid] of model) tree = await tree.add(key, CID.parse(cid))
      const root = await tree.getPointer()
      assert.equal(root.toString(), commit.data.toString(), 'the root of the tree that @atproto/repo builds')
      const wrangler = new mst.NodeWrangler(new mst.NodeStore(new mst.MemoryBlockStore()))
      let second = null
      for (const [key, cid] of model) second = await wrangler.putRecord(second, key, { $link: cid })
      if (second) assert.equal(second, commit.data.toString(), 'the root of the tree that @atcute/mst builds')

      // npm signs the same commit over its own tree and writes its own CAR of it.
      const { blocks } = await repo.readCarWithRoot(car)
      const storage = new MemoryBlockstore()
      await storage.putMany((await tree.getUnstoredBlocks()).blocks)
      const records = new BlockMap()
      for (const cid of model.values()) records.set(CID.parse(cid), blocks.get(CID.parse(cid)))
      await storage.putMany(records)
      const unsigned = { did, version: 3, rev: commit.rev, prev: null, data: root }
      const signed = await repo.signCommit(unsigned, keypair)
      const cid = await putObject(storage, signed)
      assert.equal(cid, answer.commit.cid, 'the commit that @atproto/repo signs')
      const theirs = await repo.concatBytesAsync(repo.getFullRepo(storage, CID.parse(cid)))
      assert.deepEqual(await blocksOf(car), await blocksOf(theirs), 'the CAR that @atproto/repo writes')

      // What changed since an earlier export turns that into this one.
      if (last) {
        const diffCar = await exportRepo(agent, { since: last.rev })
        const diff = await repo.verifyDiffCar(last.repo, diffCar, did, keypair.did(), { ensureLeaves: false })
        assert.ok(diffCar.length <= car.length)
        const got = new Map(last.entries)
        for (const write of diff.writes) {
          const key = `${write.collection}/${write.rkey}`
          if (write.action === 'delete') got.delete(key)
          else got.set(key, write.cid.toString())
        }
        assert.deepEqual(new Map([...got].sort(([a], [b]) => (a < b ? -1 : 1))), entries)
      }
      const own = new MemoryBlockstore(blocks)
      last = { rev: commit.rev, entries, repo: await repo.Repo.load(own, CID.parse(cid)) }
    }
    console.log(`${writes} writes`)
    assert.ok(writes > 2000)
  },

  async proofs() {
    const agent = await signIn()
    const keys = Array.from({ length: 150 }, (_, n) => `k${(n * 7919) % 1000}`)
    const writes = keys.map((rkey, n) => ({ $type: 'com.atproto.repo.applyWrites#create', collection: X, rkey, value: { n } }))
    const { results } = (await agent.com.atproto.repo.applyWrites({ repo: did, writes })).data
    const { verifyRecord } = await loadModule('@atcute/repo')
    const publicKey = await atcuteKey()
    const proof = async (rkey, collection = X) =>
      (await agent.com.atproto.sync.getRecord({ did, collection, rkey })).data
    for (const [n, rkey] of keys.entries()) {
      if (n % 3) continue
      const car = await proof(rkey)
      const cid = CID.parse(results[n].cid)
      const check = (claim) => repo.verifyProofs(car, [{ collection: X, rkey, cid: claim }], did, keypair.did())
      assert.equal((await check(cid)).verified.length, 1, 'inclusion')
      assert.equal((await check(null)).verified.length, 0, 'a record that is there is not proved absent')
      const second = await verifyRecord({ did, collection: X, rkey, publicKey, carBytes: car })
      assert.deepEqual([second.cid, second.record.n], [cid.toString(), n], '@atcute/repo')
    }
    for (const rkey of ['a', 'k', 'k00', 'k5', 'kz', 'zzz', '~']) {
      for (const collection of [X, 'com.example.a', 'zz.zz.zz', 'com.example.thingy']) {
        const car = await proof(rkey, collection)
        const claims = [{ collection, rkey, cid: null }]
        const there = collection === X && keys.includes(rkey)
        assert.equal((await repo.verifyProofs(car, claims, did, keypair.did())).verified.length, there ? 0 : 1, 'exclusion')
      }
    }
    const head = (await agent.com.atproto.sync.getLatestCommit({ did })).data
    const cids = [head.cid, ...results.slice(0, 20).map((each) => each.cid)]
    const { blocks } = await repo.readCar((await agent.com.atproto.sync.getBlocks({ did, cids })).data)
    for (const cid of cids) assert.ok(blocks.get(CID.parse(cid)), `getBlocks has ${cid}`)
  },

  // @atproto/sync follows a life of the account, all verification on.
  async firehose() {
    const agent = await signIn()
    const { Firehose, MemoryRunner } = await loadModule('@atproto/sync')
    const { IdResolver, MemoryCache } = await load('@atproto/identity')
    const ids = new IdResolver({ plcUrl: PLC_URL, fetch, didCache: new MemoryCache() })
    // A .test handle is in no DNS: ask the box for it, as DNS would be asked.
    ids.handle.resolve = async (handle) => (await agent.resolveHandle({ handle })).data.did
    const seen = []
    const problems = []
    const runner = new MemoryRunner({ startCursor: 0 })
    const firehose = new Firehose({
      service: url.replace('http', 'ws'),
      idResolver: ids,
      runner,
      unauthenticatedCommits: false,
      unauthenticatedHandles: false,
      handleEvent: (event) => void seen.push(event),
      onError: (problem) => problems.push(problem),
    })
    const running = firehose.start()
    const R = (name, input) => agent.com.atproto.repo[name]({ repo: did, ...input })
    const expected = []
    const made = async (event, key, value) => expected.push([event, key, value && (await repo.cidForRecord(value)).toString()])
    for (let n = 0; n < 20; n++) {
      const rkey = `f${n}`
      const value = (v) => ({ $type: X, n, v })
      await R('createRecord', { collection: X, rkey, record: value(1) })
      await made('create', rkey, value(1))
      if (n % 2) {
        await R('putRecord', { collection: X, rkey, record: value(2) })
        await made('update', rkey, value(2))
      }
      if (n % 4 === 3) {
        await R('deleteRecord', { collection: X, rkey })
        await made('delete', rkey)
      }
    }
    for (const kind of ['create', 'update', 'delete']) {
      const writes = Array.from({ length: 200 }, (_, n) => ({
        $type: `com.atproto.repo.applyWrites#${kind}`, collection: X, rkey: `batch-${n}`,
        ...(kind === 'delete' ? {} : { value: { $type: X, n, kind } }),
      }))
      await R('applyWrites', { writes })
      for (const write of writes) await made(kind, write.rkey, write.value)
    }
    await agent.com.atproto.server.deactivateAccount({})
    await agent.com.atproto.server.activateAccount()
    await R('createRecord', { collection: X, rkey: 'last', record: { $type: X } })
    await made('create', 'last', { $type: X })
    for (let wait = 0; wait < 200 && !seen.some((e) => e.rkey === 'last') && !problems.length; wait++) await sleep(50)
    await firehose.destroy()
    await running
    if (problems.length) throw problems[0]

    const commits = seen.filter((e) => ['create', 'update', 'delete'].includes(e.event))
    const short = (list) => list.map((each) => each.map((part) => part ?? null).join(' ')).sort()
    assert.deepEqual(short(commits.map((e) => [e.event, e.rkey, e.cid?.toString()])), short(expected))
    for (let n = 1; n < seen.length; n++) assert.ok(seen[n].seq >= seen[n - 1].seq, 'seq never goes back')
    const others = seen.filter((e) => !commits.includes(e)).map((e) => [e.event, e.active, e.handle, e.status])
    const tail = others.map(([event, active, handle, status]) => [event, active ?? handle ?? status ?? null].join(' '))
    const begun = [`identity ${HANDLE}`, 'account true', 'sync ']
    const opened = ['account true', `identity ${HANDLE}`, 'sync ']
    assert.deepEqual(tail, [...begun, 'account false', ...opened], 'the beginning, closed, opened again')
    assert.equal(others[3][3], 'deactivated')
    assert.equal(runner.getCursor(), seen.at(-1).seq)
    console.log(`${seen.length} events`)
  },
}

async function lexOf(value) {
  const { jsonToLex } = await loadModule('@atproto/lex-json')
  return jsonToLex(value)
}

async function rawRecord(collection, rkey) {
  const query = new URLSearchParams({ repo: did, collection, rkey })
  return (await (await fetch(`${url}/xrpc/com.atproto.repo.getRecord?${query}`)).json()).value
}

// Root and blocks of a CAR, as sets: npm walks the tree layer by layer, we in the order that streaming readers want.
async function blocksOf(car) {
  const { root, blocks } = await repo.readCarWithRoot(car)
  const list = blocks.entries().map(({ cid, bytes }) => `${cid} ${Buffer.from(bytes).toString('base64')}`)
  return { root: root.toString(), bytes: car.length, blocks: new Set(list) }
}

// Puts an object into a blockstore; its CID as text.
async function putObject(storage, value) {
  const { encode, cidForLex } = await loadModule('@atproto/lex-cbor')
  const bytes = encode(value)
  const cid = await cidForLex(value)
  await storage.putBlock(cid, bytes)
  return cid.toString()
}

async function atcuteKey() {
  const { parseDidKey, Secp256k1PublicKey } = await loadModule('@atcute/crypto')
  return Secp256k1PublicKey.importRaw(parseDidKey(keypair.did()).publicKeyBytes)
}

await cases[process.argv[2]]()
process.exit(0)
