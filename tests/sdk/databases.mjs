// Real databases, which are components of the environment, through the JavaScript SDK's
// proxy: their own clients talk to the local ends.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
const { SpritesClient } = await import(process.env.SPRITES_SDK);
const run = promisify(execFile);

const { BASE, TOKEN, NAME, POSTGRES_PORT, REDIS_PORT } = process.env;
const sprite = new SpritesClient(TOKEN, { baseURL: BASE }).sprite(NAME);
const local = (proxy) => proxy.localAddr().split(':').pop();
const options = { maxBuffer: 1 << 26 };

const postgres = await sprite.proxyPort(0, Number(POSTGRES_PORT));
const url = `postgresql://postgres@localhost:${local(postgres)}/postgres`;
const psql = async (sql) => (await run('psql', [url, '-Atqc', sql], options)).stdout.trim();
await psql('create table t as select n, md5(n::text) as h from generate_series(1, 10000) n');
assert.equal(await psql('select sum(length(h)) from t'), '320000');
assert.equal((await psql("select repeat('x', 20000000)")).length, 20_000_000);
// Many at once, each on a connection of its own.
const answers = await Promise.all([...Array(20).keys()].map((n) => psql(`select h from t where n = ${n + 1}`)));
assert.equal(new Set(answers).size, 20);
await run('pgbench', ['-i', '-q', url], options);
await run('pgbench', ['-c', '4', '-t', '100', url], options);
assert.equal(await psql('select count(*) from pgbench_history'), '400');

const redis = await sprite.proxyPort(0, Number(REDIS_PORT));
const cli = async (...words) =>
  (await run('redis-cli', ['-h', 'localhost', '-p', local(redis), ...words], options)).stdout.trim();
assert.equal(await cli('ping'), 'PONG');
const lua = "return redis.call('set', KEYS[1], string.rep('y', 20000000))";
assert.equal(await cli('eval', lua, '1', 'big'), 'OK');
assert.equal((await cli('get', 'big')).length, 20_000_000);
const bench = ['redis-benchmark', ['-h', 'localhost', '-p', local(redis), '-q', '-n', '5000', '-c', '10', '-P', '8', '-t', 'set,get']];
await run(...bench, options);
assert.match(await cli('info', 'stats'), /total_commands_processed:1\d{4}/);
process.exit(0);
