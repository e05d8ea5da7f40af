// What a receiver written in JavaScript does with a callback: a line of JSON per callback on stdin, its finding on stdout.
'use strict';

const readline = require('readline');
const { XMLParser, XMLValidator } = require('fast-xml-parser');
const { Webhook } = require('standardwebhooks');

const parser = new XMLParser({ htmlEntities: true, parseTagValue: false, trimValues: false });

const tasks = {
  XML({ body }) {
    const flaw = XMLValidator.validate(body);
    return flaw === true ? parser.parse(body) : { flaw };
  },
  JSON: ({ body }) => JSON.parse(body),
  verify({ secrets, headers, body }) {
    return secrets.map((secret) => {
      try {
        new Webhook(secret).verify(body, headers, { jsonParse: false });
        return 'verified';
      } catch (error) {
        return error.message;
      }
    });
  },
};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { task, ...given } = JSON.parse(line);
  given.body = Buffer.from(given.body, 'base64').toString('utf8');
  console.log(JSON.stringify(tasks[task](given)));
});
