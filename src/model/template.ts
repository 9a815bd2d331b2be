// Templates of a setup: `{{host}}` and the like stand for what is known of the host when its deployment begins. Only the
// words of this table, so that a slip is found when the setup is stored and not on a hundred machines.

/** What each word stands for; docs/setup.md prints the table. */
export const templateWords = {
  host: 'the name of the host',
  ip: 'the IP address that HaDeS knows of the host, of its first interface that has one',
  mac: 'the MAC address of that interface, or of its first',
  site: 'the site of the host',
  rack: 'the rack of the host',
  deployment: 'the number of the deployment',
  image: 'the first image of the setup, as `name:version`',
  gateway: '`gateway` of the static network of the setup',
  prefix: '`prefix` of the static network of the setup',
  service: 'where hosts reach HaDeS, as `http://10.77.0.1:7780`',
} as const
export type TemplateWord = keyof typeof templateWords

/** `{{{{` is two braces that stay: other programs have templates too. */
const mark = /\{\{\{\{|\{\{([^{}\n]{0,100})\}\}|\{\{/g

/** The words that a template uses, or what is wrong with it and in which of its lines, counted from 0. */
export function readTemplate(
  text: string,
): { readonly words: ReadonlySet<TemplateWord> } | { readonly problem: string; readonly line: number } {
  const words = new Set<TemplateWord>()
  for (const match of text.matchAll(mark)) {
    if (match[0] === '{{{{') continue
    const word = match[1]?.trim()
    if (word !== undefined && isTemplateWord(word)) words.add(word)
    else return { problem: problemOf(match[0], word), line: text.slice(0, match.index).split('\n').length - 1 }
  }
  return { words }
}

function problemOf(written: string, word: string | undefined): string {
  const stay = 'write `{{{{` for two braces that are to stay'
  if (word === undefined) return `\`{{\` has no \`}}\` behind it: ${stay}`
  return `\`${written}\` is no word of a template (${Object.keys(templateWords).join(', ')}): ${stay}`
}

function isTemplateWord(word: string): word is TemplateWord {
  return Object.hasOwn(templateWords, word)
}

/** The text with the value of each word; what is no word stays as it is. `lookUp` throws when there is none. */
export function fillTemplate(text: string, lookUp: (word: TemplateWord) => string): string {
  return text.replaceAll(mark, (written: string, inside: string | undefined) => {
    if (written === '{{{{') return '{{'
    const word = inside?.trim()
    return word !== undefined && isTemplateWord(word) ? lookUp(word) : written
  })
}
