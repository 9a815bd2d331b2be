// What makes bash, zsh and fish ask `hades complete`. Each hands over the words of the line up to the cursor, one a line, and gets
// candidates, one a line, with a description behind a tab; or one line that says that file names are wanted.

export const shells = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof shells)[number]

/** No candidate begins with a colon. */
export const filesAnswer = ':files'

// Bash breaks words at `:` and `=` too, and replaces only what is behind the last of them: the words are joined again for the
// program, and what is before is taken off its answers.
const bash = `# bash completion of hades
_hades() {
  local line=\${COMP_LINE:0:COMP_POINT} words=() glued= i word current
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    ((\${#word} > \${#line})) && word=$line
    if [[ $glued ]]; then words[\${#words[@]} - 1]+=$word; else words+=("$word"); fi
    line=\${line#"$word"}
    if [[ -z $line || $line == [[:space:]]* ]]; then glued=; else glued=1; fi
    line=\${line#"\${line%%[![:space:]]*}"}
  done
  current=\${words[\${#words[@]} - 1]}
  local found
  mapfile -t found < <(printf '%s\\n' "\${words[@]:1}" | "$1" complete 2>/dev/null)
  if [[ \${found[0]-} == ${filesAnswer} ]]; then
    compopt -o default
    COMPREPLY=()
    return
  fi
  found=("\${found[@]%%$'\\t'*}")
  COMPREPLY=("\${found[@]#"\${current%"\${current##*[:=]}"}"}")
}
complete -F _hades hades
`

const zsh = `#compdef hades
_hades() {
  local -a found described
  local line
  found=("\${(@f)$(print -rl -- "\${(@Q)words[2,CURRENT]}" | $words[1] complete 2>/dev/null)}")
  if [[ $found[1] == ${filesAnswer} ]]; then
    _files
    return
  fi
  for line in $found; do
    described+=("\${\${line%%$'\\t'*}//:/\\\\:}\${\${(M)line%%$'\\t'*}:+:\${line#*$'\\t'}}")
  done
  _describe -V hades described
}
if [[ $funcstack[1] == _hades ]]; then _hades "$@"; else compdef _hades hades; fi
`

const fish = `# fish completion of hades
function __hades_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (printf '%s\\n' $words[2..-1] "$current" | $words[1] complete 2>/dev/null)
    if test "$found[1]" = '${filesAnswer}'
        __fish_complete_path "$current"
    else
        printf '%s\\n' $found
    end
end
complete -c hades -f -a '(__hades_complete)'
`

/** The whole script for each shell. */
export const completionScripts: Readonly<Record<Shell, string>> = { bash, zsh, fish }
