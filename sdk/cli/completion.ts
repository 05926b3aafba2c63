/** pfs completion: what a shell needs to complete commands, options, stored names and paths. */
import { Argument, Command } from "commander";
import { example } from "./help.ts";
import { isUsed, onRun } from "./context.ts";
import type { Host } from "./context.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** Commands whose operands are names of stored files. */
const TAKE_NAMES = ["get", "cat", "ls", "stat", "rm", "packets", "run", "sync", "diff"];
/** Stored names, one a line, without the slash that ls puts behind those of directories. */
const LIST_NAMES = 'pfs ls --quiet 2>/dev/null | cut -f1 | sed "s,/\\$,,"';

export function completionCommand(host: Host): Command {
  const command = new Command("completion")
    .summary("print completions for a shell")
    .description("Print completions for a shell: commands, options and stored names.")
    .addArgument(new Argument("<SHELL>", SHELLS.join(", ")).choices(SHELLS))
    .addHelpText("after", example("pfs completion bash > /etc/bash_completion.d/pfs"));
  return onRun(command, host, async ({ output }, [shell]) => {
    const text = scriptFor(shell as Shell, command.parent!);
    if (output.json) return output.object({ shell, script: text });
    await output.write(text);
  });
}

function scriptFor(shell: Shell, program: Command): string {
  switch (shell) {
    case "bash":
      return bashScript(program);
    case "zsh":
      return `#compdef pfs\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(program)}`;
    case "fish":
      return fishScript(program);
  }
}

function longOptions({ options }: Pick<Command, "options">): string[] {
  return options.map((option) => option.long ?? "").filter((long) => long !== "");
}

/** Names are data that others may have chosen: compgen would run what stands in them, so they are only compared and quoted. */
function bashScript(program: Command): string {
  const everywhere = longOptions(program).join(" ");
  const cases = program.commands.map((command) => {
    const used = program.options.filter((option) => isUsed(command, option));
    const words = [...longOptions(command), ...longOptions({ options: used })].join(" ");
    const takesNames = TAKE_NAMES.includes(command.name()) ? " takes_names=1" : "";
    return `    ${command.name()}) words="${words}"${takesNames} ;;`;
  });
  return `_pfs() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words takes_names="" name
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
    *) words="${program.commands.map((command) => command.name()).join(" ")} ${everywhere}" ;;
  esac
  [[ "$COMP_CWORD" -gt 1 && "$current" != -* ]] && words=""
  local IFS=$' \\n'
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ -z "$takes_names" || "$COMP_CWORD" = 1 || "$current" = -* ]] && return
  while IFS= read -r name; do
    [[ "$name" = "\${current//\\\\/}"* ]] && COMPREPLY+=("$(printf %q "$name")")
  done < <(${LIST_NAMES})
}
complete -o default -F _pfs pfs
`;
}

function fishScript(program: Command): string {
  const lines: string[] = [];
  const quote = (text: string): string => `'${text.replace(/['\\]/g, "\\$&")}'`;
  for (const command of program.commands) {
    const seen = `__fish_seen_subcommand_from ${command.name()}`;
    lines.push(
      `complete -c pfs -f -n __fish_use_subcommand -a ${command.name()} -d ${quote(command.summary())}`,
    );
    for (const option of command.options) {
      const short = option.short === undefined ? "" : ` -s ${option.short.slice(1)}`;
      const long = (option.long ?? "").slice(2);
      lines.push(`complete -c pfs -n '${seen}' -l ${long}${short} -d ${quote(option.description)}`);
    }
    if (TAKE_NAMES.includes(command.name())) lines.push(`complete -c pfs -n '${seen}' -a '(${LIST_NAMES})'`);
  }
  for (const option of program.options) {
    lines.push(`complete -c pfs -l ${(option.long ?? "").slice(2)} -d ${quote(option.description)}`);
  }
  return `${lines.join("\n")}\n`;
}
