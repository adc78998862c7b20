// Connects to the URL of a WebSocket and prints an empty line once it is subscribed, and
// then what comes, a line each: topic, and payload in hexadecimal digits. It publishes
// what it reads, a line each: topic, QoS, whether it is retained, and payload likewise.
// It ends when its standard input does.
import { createInterface } from 'node:readline'
import mqtt from 'mqtt'

const client = mqtt.connect(process.argv[2], { protocolVersion: 4 })
client.on('message', (topic, payload) => console.log(`${topic} ${payload.toString('hex')}`))
client.on('error', (error) => {
  console.error(error)
  process.exit(1)
})
await client.subscribeAsync('limber/#', { qos: 1 })
console.log()
for await (const line of createInterface(process.stdin)) {
  const [topic, qos, retain, payload] = line.split(' ')
  await client.publishAsync(topic, Buffer.from(payload, 'hex'), { qos: Number(qos), retain: retain === 'true' })
}
process.exit(0)
