export type Language = 'pt' | 'es' | 'en' | 'ru'

export const languages: readonly Language[] = ['pt', 'es', 'en', 'ru']

interface Phrases {
  client: readonly string[]
  staff: readonly string[]
}

/** What people write to a shop, in the four languages of most accounts. */
export const phrases: Record<Language, Phrases> = {
  pt: {
    client: [
      'Olá! Vocês entregam no sábado?',
      'Oi 👋 ainda tem na cor azul?',
      'Quanto fica com o frete para Niterói?',
      'Perfeito, obrigada! 🙏',
      'Não recebi o código de rastreio…',
      'Pode ser às 14h30?',
      'Acho que veio errado: pedi 2, chegou 1 😕',
      'ok',
    ],
    staff: [
      'Bom dia! Em que posso ajudar?',
      'Entregamos sim, das 9h às 18h.',
      'O pedido nº 1042 já saiu para entrega 🚚',
      'Segue o orçamento em anexo.',
      'Vou verificar com o depósito e já retorno.',
      'Posso confirmar o endereço?\nRua das Flores, 27 — apto 301',
      'Obrigado pela preferência! 😊',
    ],
  },
  es: {
    client: [
      '¿Cuánto cuesta el envío a Córdoba?',
      'Hola, ¿siguen abiertos? 🙂',
      'Necesito factura, por favor',
      '¡Genial! Lo compro 🎉',
      '¿Me lo pueden apartar hasta mañana?',
      'Todavía no llega el paquete 😞',
      'Sí',
    ],
    staff: [
      '¡Hola! Con gusto le ayudo.',
      'El envío tarda de 2 a 3 días hábiles.',
      'Su número de guía es AR-55/2031.',
      'Le mando el catálogo de otoño 🍂',
      'Disculpe la demora, ya lo estoy revisando.',
      'Quedo atento. ¡Buen día!',
    ],
  },
  en: {
    client: [
      'Hi, is the blue one back in stock?',
      'Can I pay on delivery?',
      'Thanks, that was quick 👍',
      "The link doesn't work: https://example.com/o/1001?ref=chat&x=1",
      'Could you send me a "before & after" picture?',
      'Where is my order??',
      'Great ❤️',
    ],
    staff: [
      'Good morning! How can I help?',
      'Your order #1001 ships today.',
      'We have it in sizes S–XL.',
      'I have sent the invoice to your e-mail ✉️',
      'One moment, let me check.',
      'You can track it here: https://example.com/track/1001',
    ],
  },
  ru: {
    client: [
      'Здравствуйте! А доставка по выходным есть?',
      'Сколько стоит размер «M»?',
      'Спасибо большое 😊',
      'Можно вернуть, если не подойдёт?',
      'Ещё не пришло…',
      'Да, подходит 👌',
      'Ок',
    ],
    staff: [
      'Добрый день! Чем могу помочь?',
      'Заказ № 1057 передан в доставку 📦',
      'Доставим завтра с 10:00 до 14:00.',
      'Уточню на складе и отвечу вам.',
      'Отправила счёт на почту.',
      'Хорошего дня! ☀️',
    ],
  },
}
