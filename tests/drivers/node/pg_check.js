// node-postgres: simple and extended queries, named statements, cursors, COPY, errors, its pool, LISTEN.
'use strict'

const assert = require('node:assert')
const fs = require('node:fs')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const CLIENTS = 4

const ca = process.env.CHECK_CA
const settings = { ssl: ca ? { ca: fs.readFileSync(ca, 'utf8'), rejectUnauthorized: true } : false }

async function value (client, query, values) {
  const result = await client.query(query, values)
  return Object.values(result.rows[0])[0]
}

async function listen (client, who) {
  const heard = []
  const channel = 'node_' + who
  await client.query('LISTEN ' + channel)
  const all = new Promise((resolve) => client.on('notification', (message) => {
    heard.push(message.payload)
    if (heard.length === 50) resolve()
  }))
  const other = new Client(settings)
  await other.connect()
  for (let i = 0; i < 50; i++) await other.query('SELECT pg_notify($1, $2)', [channel, String(i)])
  await other.end()
  await all
  assert.deepStrictEqual(heard, Array.from({ length: 50 }, (_, i) => String(i)))
  await client.query('NOTIFY ' + channel + ", 'own'")
  assert.strictEqual(heard.at(-1), 'own')
  await client.query('UNLISTEN *')
}

async function work (who) {
  const client = new Client(settings)
  await client.connect()
  for (let i = 0; i < 30; i++) {
    const named = { name: 'twice', text: 'SELECT $1::int * 2 AS twice', values: [i] }
    assert.strictEqual(await value(client, named), i * 2)
    assert.strictEqual(await value(client, 'SELECT $1::text', ['ä€ ' + i]), 'ä€ ' + i)
  }
  await assert.rejects(client.query('SELECT 1 / $1::int', [0]), { code: '22012' })
  await assert.rejects(client.query('SELEC 1'), { code: '42601' })
  assert.strictEqual(await value(client, 'SELECT 5'), 5)

  const several = await client.query('SELECT 1 AS a; SELECT 2 AS a')
  assert.deepStrictEqual(several.map((result) => result.rows[0].a), [1, 2])

  await client.query('BEGIN')
  await client.query('INSERT INTO node_rows VALUES ($1, $2)', [who, 'kept'])
  await client.query('SAVEPOINT s')
  await assert.rejects(client.query('SELECT * FROM no_such_table'), { code: '42P01' })
  await client.query('ROLLBACK TO s')
  await client.query('COMMIT')
  assert.strictEqual(await value(client, 'SELECT count(*)::int FROM node_rows WHERE id = $1', [who]), 1)

  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT generate_series(1, $1::int) AS n', [1000]))
  let sum = 0
  for (let rows = await cursor.read(64); rows.length > 0; rows = await cursor.read(64)) {
    for (const row of rows) sum += row.n
  }
  await cursor.close()
  await client.query('COMMIT')
  assert.strictEqual(sum, 500500)

  const lines = Array.from({ length: 2000 }, (_, i) => `${who * 10000 + i}\tline ${i}\n`)
  await pipeline(Readable.from(lines), client.query(copyFrom('COPY node_rows FROM STDIN')))
  let bytes = ''
  for await (const chunk of client.query(copyTo(`COPY (SELECT id FROM node_rows WHERE id / 10000 = ${who}) TO STDOUT`))) bytes += chunk
  assert.strictEqual(bytes.trim().split('\n').length, 2000)
  await listen(client, who)
  await client.end()
}

async function main () {
  const first = new Client(settings)
  await first.connect()
  await first.query('CREATE TABLE node_rows (id int, text text)')
  await first.end()
  await Promise.all(Array.from({ length: CLIENTS }, (_, i) => work(i + 1)))

  const pool = new Pool({ ...settings, max: 5 })
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => pool.query('SELECT $1::int AS i', [i])))
  assert.deepStrictEqual(answers.map((answer) => answer.rows[0].i), Array.from({ length: 200 }, (_, i) => i))
  await pool.end()
  console.log('node-postgres ok')
}

main().catch((error) => { console.error(error); process.exit(1) })
