import type { Bench } from './harness/bench.ts'
import { receiveThroughput } from './receive-throughput.ts'
import { receiveFewConnections } from './receive-few-connections.ts'
import { receiveAnswerTimes } from './receive-answer-times.ts'
import { receiveProcesses } from './receive-processes.ts'
import { pageWrite } from './page-write.ts'
import { walkSpeed } from './walk-speed.ts'
import { visible } from './visible.ts'
import { historyRequests } from './history-requests.ts'
import { idleConversations } from './idle-conversations.ts'
import { workerMemory } from './worker-memory.ts'
import { storedMessages } from './stored-messages.ts'

export const benches: readonly Bench[] = [
  receiveThroughput,
  receiveFewConnections,
  receiveAnswerTimes,
  receiveProcesses,
  pageWrite,
  walkSpeed,
  visible,
  historyRequests,
  idleConversations,
  workerMemory,
  storedMessages,
]
