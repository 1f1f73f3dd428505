// A command that is silent for longer than the JavaScript SDK waits for a message.

import assert from 'node:assert/strict';
import net from 'node:net';
const { SpritesClient } = await import(process.env.SPRITES_SDK);

const { BASE, TOKEN, NAME } = process.env;
// Ports that others open and close meanwhile are no reason to say nothing for longer.
setInterval(() => {
  const server = net.createServer().listen(0, '127.0.0.1');
  setTimeout(() => server.close(), 700);
}, 1400);

const waiting = [];
for (const controlMode of [false, true]) {
  const sprite = new SpritesClient(TOKEN, { baseURL: BASE, controlMode }).sprite(NAME);
  const silent = sprite.execFile('sh', ['-c', 'sleep 70; echo after the silence']);
  silent.catch(() => {});
  waiting.push(silent);
}
for (const { stdout, exitCode } of await Promise.all(waiting)) {
  assert.deepEqual([stdout, exitCode], ['after the silence\n', 0]);
}
process.exit(0);
