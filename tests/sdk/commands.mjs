// The published JavaScript SDK, unmodified, against a running sprite-env: commands,
// sessions, the TCP proxy, control connections. The first failure ends it.

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
const { SpritesClient, ExecError } = await import(process.env.SPRITES_SDK);

const { BASE, TOKEN, NAME } = process.env;
const client = new SpritesClient(TOKEN, { baseURL: BASE });
const sprite = client.sprite(NAME);

async function collect(command) {
  let out = '';
  command.stdout.on('data', (data) => { out += data; });
  const code = await command.wait();
  return { out, code };
}

const checks = {
  async 'the environment is described'() {
    assert.ok((await client.getSprite(NAME)).id);
    assert.deepEqual((await client.listAllSprites()).map((s) => s.name), [NAME]);
    assert.equal((await sprite.check()).sprite_name ?? NAME, NAME);
    await assert.rejects(client.deleteSprite(NAME), /cannot delete itself/);
  },

  async 'output and exit codes'() {
    const done = await sprite.execFile('sh', ['-c', 'echo out; echo err >&2']);
    assert.deepEqual([done.stdout, done.stderr, done.exitCode], ['out\n', 'err\n', 0]);
    const failure = await sprite.execFile('sh', ['-c', 'echo no; exit 7']).catch((e) => e);
    assert.ok(failure instanceof ExecError);
    assert.deepEqual([failure.exitCode, failure.stdout], [7, 'no\n']);
  },

  async 'input to its end, 20 MB each way'() {
    const command = sprite.spawn('cat');
    let length = 0;
    command.stdout.on('data', (data) => { length += data.length; });
    const piece = Buffer.alloc(1 << 20, 'x');
    await once(command, 'spawn');
    for (let n = 0; n < 20; n += 1) {
      if (!command.stdin.write(piece)) await once(command.stdin, 'drain');
    }
    command.stdin.end();
    assert.equal(await command.wait(), 0);
    assert.equal(length, 20 << 20);
  },

  async 'a terminal, its size, its exit'() {
    const sized = await collect(sprite.spawn('sh', ['-c', 'stty size'], { tty: true }));
    assert.deepEqual([sized.out.trim(), sized.code], ['24 80', 0]);
    const command = sprite.spawn('sh', ['-c', 'read x; stty size; exit 3'], { tty: true, rows: 4, cols: 9 });
    await once(command, 'spawn');
    command.resize(33, 11);
    command.stdin.write('go\n');
    const { out, code } = await collect(command);
    assert.match(out, /11 33/);
    assert.notEqual(code, 0);
  },

  async 'a signal'() {
    const command = sprite.spawn('sleep', ['1000']);
    await once(command, 'spawn');
    command.kill('SIGTERM');
    assert.equal(await command.wait(), 143);
  },

  async 'a session is left, found and attached to'() {
    const shell = sprite.createSession('sh', ['-i'], { tty: true, env: { PS1: 'prompt> ' } });
    await once(shell, 'spawn');
    shell.stdin.write('echo marked-$((40+2))\n');
    let seen = '';
    await new Promise((resolve) => shell.stdout.on('data', (data) => {
      seen += data;
      if (seen.includes('marked-42')) resolve();
    }));
    const [session] = await sprite.listSessions();
    assert.equal(session.tty, true);
    const again = sprite.attachSession(session.id);
    let replayed = '';
    await new Promise((resolve) => again.stdout.on('data', (data) => {
      replayed += data;
      if (replayed.includes('marked-42')) resolve();
    }));
    const kinds = [];
    for await (const event of await sprite.killSession(session.id, 'SIGKILL', '5s')) {
      kinds.push(event.type);
    }
    assert.deepEqual(kinds, ['signal', 'exited', 'complete']);
    await Promise.all([shell.wait(), again.wait()]);
  },

  async 'a port through the proxy'() {
    const port = Number(process.env.ECHO_PORT);
    const proxy = await sprite.proxyPort(0, port);
    const local = Number(proxy.localAddr().split(':').pop());
    const socket = net.connect(local, 'localhost');
    socket.write('through the proxy');
    const [data] = await once(socket, 'data');
    assert.equal(String(data), 'through the proxy');
    socket.destroy();
    proxy.close();
  },

  async 'ports that open and close'() {
    const watcher = await sprite.watchPorts();
    const list = await watcher.next();
    assert.equal(list.type, 'port_list');
    const server = net.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    const about = async () => {
      for (;;) {
        const event = await watcher.next();
        if (event.port === port) return event;
      }
    };
    assert.deepEqual(await about(),
      { type: 'port_opened', port, address: '127.0.0.1', pid: process.pid });
    server.close();
    assert.equal((await about()).type, 'port_closed');
    watcher.close();
  },

  async 'checkpoints'() {
    const dir = process.env.DIR;
    await sprite.execFile('sh', ['-c', `echo first >${dir}/file`]);
    const events = async (stream) => {
      const all = [];
      await (await stream).processAll((event) => { all.push(event); });
      return all;
    };
    const made = await events(sprite.createCheckpoint('from javascript'));
    assert.equal(made.at(-1).type, 'complete');
    await sprite.execFile('sh', ['-c', `echo second >${dir}/file`]);
    const listed = (await sprite.listCheckpoints()).find((c) => c.comment === 'from javascript');
    assert.ok(listed);
    assert.equal((await sprite.getCheckpoint(listed.id)).comment, 'from javascript');
    const restored = await events(sprite.restoreCheckpoint(listed.id));
    assert.equal(restored.at(-1).type, 'complete');
    const read = await sprite.execFile('cat', [`${dir}/file`]);
    assert.equal(read.stdout, 'first\n');
    const missing = await events(sprite.restoreCheckpoint('v999')).catch((e) => e);
    assert.ok(missing instanceof Error);
  },

  async 'control connections'() {
    const over = new SpritesClient(TOKEN, { baseURL: BASE, controlMode: true }).sprite(NAME);
    const done = await over.execFile('sh', ['-c', 'echo over control']);
    assert.equal(done.stdout, 'over control\n');
    const failure = await over.execFile('sh', ['-c', 'exit 6']).catch((e) => e);
    assert.equal(failure.exitCode, 6);
  },

  async 'frames over HTTP'() {
    const done = await sprite.execFileHTTP('sh', ['-c', 'echo framed']);
    assert.deepEqual([done.stdout, done.exitCode], ['framed\n', 0]);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log('ok', name);
}
process.exit(0);
