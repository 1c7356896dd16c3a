// ioredis against Lariat: one node, one node of a cluster, and a cluster-aware client, while a node is killed.

import assert from "node:assert/strict";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster, Redis } from "ioredis";

const PATIENCE_MS = 20_000;

/** Strings: 26 commands. */
async function strings(r, k) {
  assert.equal(await r.set(k("a"), "1"), "OK");
  assert.equal(await r.get(k("a")), "1");
  assert.equal(await r.set(k("a"), "2", "NX"), null);
  assert.equal(await r.set(k("a"), "2", "XX", "GET"), "1");
  assert.equal(await r.set(k("a"), "3", "EX", 100), "OK");
  assert.equal(await r.setnx(k("b"), "x"), 1);
  assert.equal(await r.setex(k("c"), 100, "y"), "OK");
  assert.equal(await r.psetex(k("d"), 100_000, "z"), "OK");
  assert.equal(await r.getset(k("b"), "w"), "x");
  assert.equal(await r.getex(k("d"), "PERSIST"), "z");
  assert.equal(await r.getdel(k("d")), "z");
  assert.equal(await r.mset(k("e"), "1", k("f"), "2"), "OK");
  assert.deepEqual(await r.mget(k("e"), k("f"), k("none")), ["1", "2", null]);
  assert.equal(await r.msetnx(k("e"), "9", k("g"), "9"), 0);
  assert.equal(await r.append(k("e"), "23"), 3);
  assert.equal(await r.strlen(k("e")), 3);
  assert.equal(await r.getrange(k("e"), 1, -1), "23");
  assert.equal(await r.substr(k("e"), 0, 0), "1");
  assert.equal(await r.setrange(k("e"), 2, "XYZ"), 5);
  assert.equal(await r.get(k("e")), "12XYZ");
  assert.equal(await r.incr(k("n")), 1);
  assert.equal(await r.incrby(k("n"), 41), 42);
  assert.equal(await r.decr(k("n")), 41);
  assert.equal(await r.decrby(k("n"), 1), 40);
  assert.equal(await r.incrbyfloat(k("n"), 0.5), "40.5");
  const value = Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 256));
  assert.equal(await r.set(k("bin"), value), "OK");
  assert.deepEqual(await r.getBuffer(k("bin")), value);
}

/** Keys and their times: 24 commands. */
async function keys(r, k) {
  assert.equal(await r.exists(k("a"), k("b"), k("none")), 2);
  assert.equal(await r.type(k("a")), "string");
  assert.equal(await r.touch(k("a"), k("b")), 2);
  assert.equal(await r.rename(k("b"), k("h")), "OK");
  assert.equal(await r.renamenx(k("h"), k("a")), 0);
  assert.equal(await r.copy(k("h"), k("i")), 1);
  assert.equal(await r.del(k("h"), k("i")), 2);
  assert.equal(await r.unlink(k("c")), 1);
  assert.equal(await r.expire(k("e"), 100), 1);
  assert.equal(await r.expire(k("e"), 50, "GT"), 0);
  const ttl = await r.ttl(k("e"));
  assert.ok(ttl > 90 && ttl <= 100);
  const pttl = await r.pttl(k("e"));
  assert.ok(pttl > 90_000 && pttl <= 100_000);
  assert.equal(await r.persist(k("e")), 1);
  assert.equal(await r.ttl(k("e")), -1);
  assert.equal(await r.ttl(k("none")), -2);
  assert.equal(await r.pexpire(k("e"), 100_000), 1);
  const later = Math.floor(Date.now() / 1000) + 1000;
  assert.equal(await r.expireat(k("e"), later), 1);
  assert.ok(Math.abs((await r.expiretime(k("e"))) - later) <= 1);
  assert.equal(await r.pexpireat(k("e"), later * 1000), 1);
  assert.ok(Math.abs((await r.pexpiretime(k("e"))) - later * 1000) <= 1000);
  assert.equal(await r.object("ENCODING", k("f")), "int");
  assert.ok((await r.memory("USAGE", k("f"))) > 0);
  await assert.rejects(r.lpush(k("list"), "x"), /not supported/);
}

/** What tools ask a node for: 9 commands. */
async function node(r, k) {
  assert.equal(await r.ping(), "PONG");
  assert.equal(await r.echo("hello"), "hello");
  assert.match(await r.info("server"), /redis_version:7\.2\.4/);
  assert.equal((await r.time()).length, 2);
  assert.equal(await r.client("SETNAME", "js"), "OK");
  assert.equal(await r.client("GETNAME"), "js");
  assert.ok((await r.client("ID")) > 0);
  assert.ok((await r.command("COUNT")) > 50);
  assert.deepEqual(await r.config("GET", "maxmemory-policy"), ["maxmemory-policy", "allkeys-lru"]);
  const seen = new Set();
  let cursor = "0";
  do {
    const [next, page] = await r.scan(cursor, "MATCH", k("[ef]"), "COUNT", 100);
    page.forEach((key) => seen.add(key));
    cursor = next;
  } while (cursor !== "0");
  assert.deepEqual([...seen].sort(), [k("e"), k("f")]);
}

/** A pipeline is answered in order. */
async function pipeline(r, k) {
  const p = r.pipeline();
  for (let i = 0; i < 200; i++) p.set(k(`p${i}`), i);
  for (let i = 0; i < 200; i++) p.get(k(`p${i}`));
  const replies = await p.exec();
  replies.slice(200).forEach(([error, value], i) => assert.deepEqual([error, value], [null, `${i}`]));
}

async function allOf(r, name, isCluster) {
  const k = (key) => `{${name}}${key}`;
  await strings(r, k);
  await keys(r, k);
  if (!isCluster) await node(r, k);
  await pipeline(r, k);
  const nodes = isCluster ? r.nodes("master") : [r];
  const sizes = await Promise.all(nodes.map((one) => one.dbsize()));
  assert.ok(sizes.reduce((a, b) => a + b) >= 200);
  for (const one of nodes) assert.equal(await one.flushall(), "OK");
  for (const one of nodes) assert.equal(await one.dbsize(), 0);
}

/** Tries until it does not fail: during a failover commands may. */
async function until(what, act) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (Date.now() > end) throw new Error(`${what}: ${error}`);
      await sleep(10);
    }
  }
}

const [single, one, cluster] = process.argv.slice(2);
const split = (address) => {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
};
for (const address of [single, one]) {
  const plain = new Redis(split(address));
  await allOf(plain, "js", false);
  plain.disconnect();
}
const plain = new Redis(split(one));
const aware = new Cluster(cluster.split(",").map(split));
aware.on("error", () => {});
await until("the cluster", async () => assert.equal(aware.nodes("master").length, 3));
await allOf(aware, "cluster", true);

for (let i = 0; i < 300; i++) assert.equal(await aware.set(`stays${i}`, i), "OK");
console.log("kill");
const lines = readline.createInterface({ input: process.stdin });
await new Promise((resolve) => lines.once("line", resolve));
lines.close();
for (let i = 0; i < 300; i++) {
  assert.equal(await until("get", () => plain.get(`stays${i}`)), `${i}`);
  assert.equal(await until("get, aware", () => aware.get(`stays${i}`)), `${i}`);
  assert.equal(await until("set, aware", () => aware.set(`stays${i}`, i + 1)), "OK");
  assert.equal(await until("get", () => plain.get(`stays${i}`)), `${i + 1}`);
}
await allOf(plain, "after", false);
await until("two nodes", async () => assert.equal(aware.nodes("master").length, 2));
await allOf(aware, "aware-after", true);
console.log("done");
process.exit(0);
