// Sends messages with the unmodified client: node send.mjs HOST COUNT
import { Analytics } from '@segment/analytics-node'

const [host, count] = [process.argv[2], Number(process.argv[3])]
const analytics = new Analytics({ writeKey: 'any', host, maxRetries: 10, flushAt: 10, flushInterval: 100 })
analytics.on('error', (error) => console.error('error', error))
for (let number = 0; number < count; number++) {
  analytics.track({ userId: `u${number}`, event: 'From Node', properties: { number } })
}
analytics.identify({ userId: 'u0', traits: { plan: 'free' } })
await analytics.closeAndFlush()
