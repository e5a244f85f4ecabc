// An application on the npm client of the framework: what it is told by the gate, as that client parses it, and what that client
// does by itself when a token has ended. It knows the gate by its address alone; `scripts/clients` starts the server, and says in a
// file where it is, which case it answers in, and who has an account.
//
// In PascalCase the application's classes are those that the gate itself hands out at `/types/mjs`, as an application of such a
// host has them; in camelCase they are its own. The client passes what it is answered through as it is, but for errors, which it
// reads in both cases.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { JsonApiClient, JsonServiceClient } from '@servicestack/client'

const stage = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const pascal = stage.case === 'pascal'
// How long a token of two seconds is over for certain.
const OVER = 3000

let failed = 0
async function check(name, body) {
    try {
        await body()
        console.log(`ok ${stage.label}: ${name}`)
    } catch (error) {
        failed += 1
        const why = error instanceof Error ? error.message : JSON.stringify(error)
        console.log(`FAILED ${stage.label}: ${name}: ${why.replaceAll(/\s+/g, ' ')}`)
    }
}

// A member's name in the case of this run.
const spelled = name => pascal ? name[0].toUpperCase() + name.slice(1) : name
// Members in that case; `provider` is written so in both.
const members = init => Object.fromEntries(
    Object.entries(init).map(([name, value]) => [name === 'provider' ? name : spelled(name), value]))
// The client reads a request's name off its class.
const request = name => ({ [name]: class { constructor(init) { Object.assign(this, init) } } })[name]

async function typesOfTheGate() {
    const answer = await fetch(`${stage.url}/types/mjs`)
    assert.equal(answer.status, 200)
    const file = `${stage.scratch}/dtos.mjs`
    writeFileSync(file, await answer.text())
    return import(pathToFileURL(file))
}

const { Authenticate } = pascal ? await typesOfTheGate() : { Authenticate: request('Authenticate') }
const AssignRoles = request('AssignRoles')
const UnAssignRoles = request('UnAssignRoles')

const ask = (dto, init) => new dto(members(init))
const who = () => ask(Authenticate, {})
const credentials = (account, more = {}) =>
    ask(Authenticate, { provider: 'credentials', userName: account.name, password: account.password, ...more })
// A session and no token, as from a host without tokens.
const WITHOUT_TOKEN = { meta: { ignore: 'jwt' } }

// Whatever any client sends, by the last part of its address.
const sent = []
JsonServiceClient.globalRequestFilter = ({ url }) => sent.push(new URL(url).pathname.split('/').at(-1))
const sentDuring = async body => {
    sent.length = 0
    const answer = await body()
    return [answer, [...sent]]
}

function client() {
    const made = new JsonServiceClient(stage.url)
    // An error that comes back from a second try is raised once more, then without its response.
    made.exceptionFilter = response => { made.status = response?.status ?? made.status }
    return made
}

async function loggedIn(account, more = WITHOUT_TOKEN) {
    const made = client()
    made.answer = await made.post(credentials(account, more))
    return made
}

async function refused(asking, made, status, code, message) {
    const error = await asking.then(answer => assert.fail(`let through: ${JSON.stringify(answer)}`), error => error)
    const { errorCode, message: said } = error.responseStatus ?? assert.fail(`no error of the framework: ${error}`)
    assert.deepEqual([made.status, errorCode, said], [status, code, message])
}

const { admin, user } = stage

// The application's own service, behind the gate: it shows as text what has come through to it. A "no" in front of it has no error
// of the framework in its body, so the client makes one of the status and the reason phrase.
class Mirror {
    constructor(init) { Object.assign(this, init) }
    createResponse() { return '' }
}
const shown = (answer, verb, more = '') => {
    assert.match(answer, new RegExp(`^${verb} /`))
    assert.match(answer, new RegExp(`\\nby ${user.name}\\n`))
    assert.ok(answer.endsWith(`\n\n${more}`), answer)
    // What the client proved itself with is nothing for a service.
    for (const own of ['ss-id', 'ss-pid', 'ss-tok', 'ss-reftok']) assert.ok(!answer.includes(own), own)
}

await check('wrong password', async () => {
    const made = client()
    const wrong = credentials({ ...user, password: 'Diego' })
    await refused(made.post(wrong), made, 401, 'Unauthorized', 'Invalid Username or Password')
})

await check('nobody without a session', async () => {
    const made = client()
    await refused(made.post(who()), made, 401, 'Unauthorized', 'Not Authenticated')
})

await check('login', async () => {
    const { answer, cookies } = await loggedIn(user)
    assert.equal(answer[spelled('userName')], user.name)
    assert.equal(answer[spelled('displayName')], user.display)
    assert.deepEqual(answer[spelled('roles')], [])
    assert.equal(answer[spelled('bearerToken')], undefined)
    assert.equal(cookies['ss-id'].value, answer[spelled('sessionId')])
})

await check('login in JSON that is called plain text', async () => {
    const answer = await JsonApiClient.create(stage.url).post(credentials(user))
    assert.equal(answer[spelled('userName')], user.name)
})

await check('login by a password with each request', async () => {
    const made = client()
    made.setCredentials(user.name, user.password)
    assert.equal((await made.post(who()))[spelled('userName')], user.name)
})

await check('session', async () => {
    const made = await loggedIn(user)
    const answer = await made.post(who())
    assert.equal(answer[spelled('userName')], user.name)
    assert.equal(answer[spelled('sessionId')], made.answer[spelled('sessionId')])
    assert.equal((await made.get(who()))[spelled('userName')], user.name)
})

await check('a second login has another session', async () => {
    const made = await loggedIn(user)
    const again = await made.post(credentials(user, WITHOUT_TOKEN))
    assert.notEqual(again[spelled('sessionId')], made.answer[spelled('sessionId')])
    assert.equal((await made.post(who()))[spelled('sessionId')], again[spelled('sessionId')])
})

const roles = { userName: user.name, roles: ['Editor'], permissions: ['publish'] }

await check('a service behind the gate is not for everybody', async () => {
    const made = client()
    await refused(made.get(new Mirror()), made, 401, '401', 'Unauthorized')
})

await check('a service behind the gate knows who is logged in', async () => {
    shown(await (await loggedIn(user)).get(new Mirror()), 'GET')
    shown(await (await loggedIn(user, {})).get(new Mirror()), 'GET')
})

await check('a service behind the gate asks for a role', async () => {
    const made = await loggedIn(user)
    await refused(made.post(new Mirror({ name: 'Citadel' })), made, 403, '403', 'Invalid Role')
})

await check('roles are not for everybody to assign', async () => {
    const made = await loggedIn(user)
    await refused(made.post(ask(AssignRoles, roles)), made, 403, 'Forbidden', 'Invalid Role')
})

await check('roles assigned, and seen in the session', async () => {
    const [master, made] = [await loggedIn(admin), await loggedIn(user)]
    const answer = await master.post(ask(AssignRoles, roles))
    assert.deepEqual(answer[spelled('allRoles')], ['Editor'])
    assert.deepEqual(answer[spelled('allPermissions')], ['publish'])
    const seen = await made.post(who())
    assert.deepEqual(seen[spelled('roles')], ['Editor'])
    assert.deepEqual(seen[spelled('permissions')], ['publish'])
    shown(await made.post(new Mirror({ name: 'Citadel' })), 'POST', '{"name":"Citadel"}')
})

await check('roles taken away, and seen in the session', async () => {
    const [master, made] = [await loggedIn(admin), await loggedIn(user)]
    assert.deepEqual((await made.post(who()))[spelled('roles')], ['Editor'])
    const answer = await master.post(ask(UnAssignRoles, roles))
    assert.deepEqual(answer[spelled('allRoles')], [])
    const seen = await made.post(who())
    assert.deepEqual([seen[spelled('roles')], seen[spelled('permissions')]], [[], []])
    await refused(made.post(new Mirror({ name: 'Citadel' })), made, 403, '403', 'Invalid Role')
})

await check('tokens in cookies, renewed by the gate on the way', async () => {
    const made = await loggedIn(user, {})
    assert.equal(made.answer[spelled('bearerToken')], undefined)
    assert.equal(made.useTokenCookie, true, 'X-Cookies names the refresh token')
    const first = made.cookies['ss-tok'].value
    await sleep(OVER)
    const [seen, asked] = await sentDuring(() => made.post(who()))
    assert.equal(seen[spelled('userName')], user.name)
    assert.deepEqual(asked, ['Authenticate'], 'the client had nothing to do')
    assert.notEqual(made.cookies['ss-tok'].value, first)
})

await check('a refused client renews its token by cookie, and asks again', async () => {
    const made = await loggedIn(user, {})
    const first = made.cookies['ss-tok'].value
    const wrong = credentials({ ...user, password: 'Diego' })
    const [, asked] = await sentDuring(() => refused(made.post(wrong), made, 401, 'Unauthorized', 'Invalid Username or Password'))
    assert.deepEqual(asked, ['Authenticate', 'GetAccessToken', 'Authenticate'])
    assert.notEqual(made.cookies['ss-tok'].value, first)
})

// Holds an access token that has ended and the refresh token it came with, and no cookie.
async function ended() {
    const made = client()
    const { answer } = await loggedIn(user, { useTokenCookie: false })
    await sleep(OVER)
    made.bearerToken = answer[spelled('bearerToken')]
    made.refreshToken = answer[spelled('refreshToken')]
    made.before = made.bearerToken
    return made
}

await check('an ended token alone opens nothing', async () => {
    const made = await ended()
    made.refreshToken = undefined
    await refused(made.get(new Mirror()), made, 401, 'TokenException', 'Token has expired')
})

await check('a refused client renews its token by refresh token, and asks again', async () => {
    const made = await ended()
    // Of `GetAccessToken` it reads camelCase alone; where it cannot read the new token it may have it in a cookie.
    made.useTokenCookie = pascal
    const [answer, asked] = await sentDuring(() => made.get(new Mirror()))
    assert.deepEqual(asked, ['Mirror', 'GetAccessToken', 'Mirror'])
    shown(answer, 'GET')
    if (pascal) {
        assert.equal(made.bearerToken, null)
        assert.equal(made.cookies['ss-tok'].value.split('.').length, 3)
    } else {
        assert.notEqual(made.bearerToken, made.before)
    }
})

await check('logout', async () => {
    const made = await loggedIn(user)
    const kept = { ...made.cookies }
    await made.post(ask(Authenticate, { provider: 'logout' }))
    // This client keeps a deleted cookie with an empty value, and would try to renew its token by that.
    made.enableAutoRefreshToken = false
    await refused(made.post(who()), made, 401, 'Unauthorized', 'Not Authenticated')
    const thief = client()
    thief.cookies = kept
    await refused(thief.post(who()), thief, 401, 'Unauthorized', 'Not Authenticated')
})

await check('logout with tokens', async () => {
    const made = await loggedIn(user, {})
    await made.post(ask(Authenticate, { provider: 'logout' }))
    assert.equal(made.cookies['ss-tok'].value, '')
    assert.equal(made.cookies['ss-reftok'].value, '')
    made.enableAutoRefreshToken = false
    await refused(made.post(who()), made, 401, 'Unauthorized', 'Not Authenticated')
})

process.exit(failed === 0 ? 0 : 1)
