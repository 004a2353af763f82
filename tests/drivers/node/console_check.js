// The console by node-postgres: simple and extended.
'use strict'

const assert = require('node:assert')
const { Client } = require('pg')

async function main () {
  const client = new Client({ ssl: false })
  await client.connect()
  const state = await client.query('SHOW STATE')
  assert.deepStrictEqual(state.rows[0], { key: 'active', value: 'yes' })
  const named = { name: 'pools', text: 'SELECT "user", cl_active FROM hawser.pools WHERE database = $1', values: ['pgbouncer'] }
  for (let i = 0; i < 3; i++) {
    assert.deepStrictEqual((await client.query(named)).rows, [{ user: 'pgbouncer', cl_active: 1 }])
  }
  assert.strictEqual((await client.query('RELOAD')).command, 'RELOAD')
  await assert.rejects(client.query('KILL_CLIENT $1', [1]), /invalid command|client id/)
  await client.end()
  console.log('ok')
}

main().catch(error => { console.error(error); process.exit(1) })
