// One process with the Node SDK in it: a call per line of JSON on stdin, its outcome as a line on stdout.
// Bytes are {"$bytes": base64} both ways.
'use strict';

const readline = require('readline');
const COS = require('cos-nodejs-sdk-v5');

const cos = new COS(JSON.parse(process.env.COS_OPTIONS));

const fromWire = (name, value) => (value && value.$bytes !== undefined ? Buffer.from(value.$bytes, 'base64') : value);
const toWire = (name, value) => (value && value.type === 'Buffer' ? { $bytes: Buffer.from(value.data).toString('base64') } : value);

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line, fromWire);
  const done = (error, data) => console.log(JSON.stringify({ id, error, data }, toWire));
  if (method === 'getObjectUrl') done(null, cos.getObjectUrl(params));
  else cos[method](params, done);
});
