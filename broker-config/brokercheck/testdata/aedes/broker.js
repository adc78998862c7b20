// Runs aedes as it comes, on a free port of this machine, which it prints. It ends
// when its standard input does.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
// As mosquitto's set_tcp_nodelay: else some acknowledgements wait for 40 ms.
const server = createServer({ noDelay: true }, broker.handle)
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.resume().on('end', () => process.exit(0))
